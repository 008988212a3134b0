// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <type_traits>
#include <vector>

#include <sara/tensor/eigen.hpp>

#include "../support/layout.hpp"

namespace {

using sara::extents;
using sara::test::values_of;

template <int Order>
using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Order>;

}  // namespace

TEST_CASE_TEMPLATE("a matrix reads in row-major order in either storage order", Matrix, matrix<Eigen::RowMajor>,
                   matrix<Eigen::ColMajor>, Eigen::Array<double, 2, 3>, Eigen::Matrix<double, 2, 3, Eigen::RowMajor>) {
  Matrix m(2, 3);
  m << 1, 2, 3, 4, 5, 6;
  auto const v = sara::view(m);
  CHECK(v.shape() == extents{2, 3});
  CHECK(v.type() == sara::dtype::float64);
  CHECK(v.dense() == bool(Matrix::IsRowMajor));
  CHECK(values_of(v) == std::vector<double>{1, 2, 3, 4, 5, 6});
  v.template as<double>()[4] = 50;
  CHECK(m(1, 1) == 50);
  CHECK(values_of(sara::view(std::as_const(m)))[4] == 50);
}

TEST_CASE("blocks, maps and references are views of the matrix behind them") {
  matrix<Eigen::ColMajor> m(3, 4);
  m << 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12;

  auto block = m.block(1, 1, 2, 2);
  CHECK(values_of(sara::view(block)) == std::vector<double>{6, 7, 10, 11});
  auto row = m.row(1);
  CHECK(sara::view(row).shape() == extents{4});
  CHECK(values_of(sara::view(row)) == std::vector<double>{5, 6, 7, 8});
  auto column = m.col(2);
  CHECK(values_of(sara::view(column)) == std::vector<double>{3, 7, 11});

  Eigen::Map<matrix<Eigen::RowMajor>, 0, Eigen::OuterStride<>> map{m.data(), 2, 3, Eigen::OuterStride<>{4}};
  CHECK(sara::view(map).stride() == extents{4, 1});
  Eigen::Ref<matrix<Eigen::ColMajor>> ref{m};
  sara::view(ref).as<double>()[0] = -1;
  CHECK(m(0, 0) == -1);
}

TEST_CASE("what cannot be written is only read") {
  using map_of_const = Eigen::Map<Eigen::MatrixXf const>;
  static_assert(sara::WritableTensor<Eigen::MatrixXf> && sara::WritableTensor<Eigen::Map<Eigen::MatrixXf>> &&
                sara::WritableTensor<Eigen::ArrayXd>);
  static_assert(sara::ReadableTensor<Eigen::MatrixXf const> && !sara::WritableTensor<Eigen::MatrixXf const>);
  static_assert(sara::ReadableTensor<map_of_const> && !sara::WritableTensor<map_of_const>);
  static_assert(!sara::ReadableTensor<Eigen::MatrixXi> && !sara::ReadableTensor<Eigen::MatrixXcf>);
  static_assert(!sara::ReadableTensor<decltype(Eigen::MatrixXf{} + Eigen::MatrixXf{})>);

  std::vector<float> data{1, 2, 3, 4};
  map_of_const const map{data.data(), 2, 2};
  static_assert(std::is_same_v<decltype(sara::view(map)), sara::const_tensor_view>);
  CHECK(values_of(sara::view(map)) == std::vector<double>{1, 3, 2, 4});
}

TEST_CASE("half types") {
  Eigen::Matrix<Eigen::half, 2, 1> h{Eigen::half(0.5f), Eigen::half(-2.0f)};
  CHECK(sara::view(h).type() == sara::dtype::float16);
  CHECK(values_of(sara::view(h)) == std::vector<double>{0.5, -2});
  sara::view(h).as<sara::float16>()[0] = sara::float16{3.0f};
  CHECK(static_cast<float>(h(0)) == 3.0f);

  Eigen::Array<Eigen::bfloat16, 1, 2> b{Eigen::bfloat16(0.5f), Eigen::bfloat16(-2.0f)};
  CHECK(sara::view(b).type() == sara::dtype::bfloat16);
  CHECK(values_of(sara::view(b)) == std::vector<double>{0.5, -2});
}

TEST_CASE("an empty matrix") {
  Eigen::MatrixXf const m(0, 3);
  CHECK(sara::view(m).shape() == extents{0, 3});
}
