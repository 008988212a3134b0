// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <sara/backprop.hpp>
#include <sara/tensor/eigen.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/layout.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::const_tensor_view;
using sara::extents;
using sara::host;
using sara::test::at_positions;
using sara::test::complaint;
using sara::test::difference;
using sara::test::golden;
using sara::test::laid_out;
using sara::test::linear_gradient;
using sara::test::make_store;
using sara::test::random_positions;
using sara::test::uniform;

template <class Store, sara::Real R>
std::vector<R> sampled(sara::matrix_shape shape, std::vector<std::int64_t> const& positions,
                       const_tensor_view const& dy, const_tensor_view const& x) {
  host const backend{2};
  auto const store = make_store<Store>(backend, shape, positions);
  std::vector<R> gradient(positions.size());
  sara::accumulate_linear(backend, dy, x, store.ref(), gradient.data());
  return gradient;
}

template <class Store, sara::Real R>
void check_golden_linear(std::string const& name) {
  CAPTURE(name);
  auto const& file = golden("gradients.safetensors");
  auto const dy = file.read<float>(name + ".dy");
  auto const x = file.read<float>(name + ".x");
  auto const index = file.read<std::int32_t>(name + ".idx");
  std::vector<std::int64_t> const positions(index.begin(), index.end());
  auto const& weight = file.at(name + ".w").shape;
  CHECK(positions == sara::test::positions_in(file.read<bool>(name + ".mask")));

  auto const dy_view = sara::view(dy.data(), sara::test::shape_of(file.at(name + ".dy")));
  auto const x_view = sara::view(x.data(), sara::test::shape_of(file.at(name + ".x")));
  auto const gradient = sampled<Store, R>({weight[0], weight[1]}, positions, dy_view, x_view);
  CHECK(difference(gradient, file.read<float>(name + ".dw_compact"), {1e-5, 1e-5}) == "");

  auto const every = sara::test::every_position(weight[0]);
  auto const bias = make_store<Store>(host{1}, {weight[0], 1}, every);
  std::vector<R> db(every.size());
  sara::accumulate_linear_bias(host{1}, dy_view, bias.ref(), db.data());
  CHECK(difference(db, file.read<float>(name + ".db"), {1e-5, 1e-5}) == "");
}

}  // namespace

TEST_CASE_TEMPLATE("golden gradients", Store, SARA_HOST_STORES) {
  for (auto const* name : {"linear_2d", "linear_3d", "linear_b1"}) {
    check_golden_linear<Store, float>(name);
    check_golden_linear<Store, double>(name);
  }
}

TEST_CASE("sampled gradients without the rest of the library") {
  std::int64_t const batch = 32, out = 8, in = 16;
  auto const dy = uniform<float>("dy", batch * out);
  auto const x = uniform<float>("x", batch * in);
  auto weight = uniform<float>("w", out * in);
  auto const before = weight;
  std::vector<std::int64_t> const selected{3, 17, 90};
  // [alone]
  sara::host const backend;
  sara::flat_index const store{backend, {out, in}, selected.data(), std::ssize(selected)};

  std::vector<float> gradient(selected.size());
  sara::accumulate_linear(backend, sara::view(dy.data(), {batch, out}), sara::view(x.data(), {batch, in}), store.ref(),
                          gradient.data());

  std::vector<float> values(selected.size());
  sara::gather(backend, sara::view(weight), store.ref(), values.data());
  for (std::size_t j = 0; j < values.size(); ++j) values[j] -= 0.1f * gradient[j];
  sara::scatter(backend, values.data(), store.ref(), sara::view(weight));
  // [/alone]
  auto const dense = linear_gradient(sara::view(dy.data(), {batch, out}), sara::view(x.data(), {batch, in}));
  CHECK(difference(gradient, at_positions(dense, selected), {1e-5, 1e-5}) == "");
  std::vector<float> expected = before;
  for (std::size_t j = 0; j < selected.size(); ++j)
    expected[static_cast<std::size_t>(selected[j])] -= 0.1f * gradient[j];
  CHECK(difference(weight, expected, {1e-7, 0}) == "");
}

TEST_CASE_TEMPLATE("dY and X of any dtypes", T, double, float, sara::bfloat16, sara::float16) {
  sara::matrix_shape const shape{19, 37};
  std::int64_t const batch = 43;
  auto const dy = uniform<T>("dy", batch * shape.rows);
  auto const check_with = [&]<class U>() {
    auto const x = uniform<U>("x", batch * shape.cols);
    auto const dy_view = sara::view(dy.data(), {batch, shape.rows});
    auto const x_view = sara::view(x.data(), {batch, shape.cols});
    for (double const density : {0.3, 0.9}) {  // sampled, and dense with a gather
      auto const positions = random_positions("m", shape.size(), density);
      auto const expected = at_positions(linear_gradient(dy_view, x_view), positions);
      CHECK(difference(sampled<sara::row_index<host>, float>(shape, positions, dy_view, x_view), expected,
                       {1e-5, 1e-5}) == "");
      CHECK(difference(sampled<sara::row_index<host>, double>(shape, positions, dy_view, x_view), expected,
                       {1e-13, 1e-13}) == "");
    }
  };
  check_with.template operator()<double>();
  check_with.template operator()<float>();
  check_with.template operator()<sara::bfloat16>();
  check_with.template operator()<sara::float16>();
}

TEST_CASE("dY and X of any strides that join") {
  sara::matrix_shape const shape{13, 21};
  auto const dy_values = uniform<double>("dy", 2 * 5 * 13);
  auto const x_values = uniform<double>("x", 2 * 5 * 21);
  laid_out<double> const dense_dy{dy_values, {2, 5, 13}, {0, 1, 2}};
  laid_out<double> const dense_x{x_values, {2, 5, 21}, {0, 1, 2}};
  for (double const density : {0.3, 0.9}) {
    auto const positions = random_positions("m", shape.size(), density);
    auto const expected = at_positions(linear_gradient(dense_dy.view(), dense_x.view()), positions);
    for (extents const& order : {extents{0, 1, 2}, {2, 0, 1}})
      for (std::int64_t const gap : {0, 2}) {
        laid_out<float> const dy{dy_values, {2, 5, 13}, order, gap};
        laid_out<double> const x{x_values, {2, 5, 21}, order, gap};
        CHECK(difference(sampled<sara::flat_index<host>, double>(shape, positions, dy.view(), x.view()), expected,
                         {1e-6, 0}) == "");
        CHECK(difference(sampled<sara::bitmask<host>, float>(shape, positions, dense_dy.view(), x.view()), expected,
                         {1e-5, 0}) == "");
      }
  }
}

TEST_CASE("Eigen matrices of either storage order") {
  Eigen::MatrixXd const dy = Eigen::MatrixXd::Random(6, 4);
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const x = Eigen::MatrixXd::Random(6, 3);
  Eigen::Matrix<double, 4, 3, Eigen::RowMajor> const dw = dy.transpose() * x;
  std::vector<std::int64_t> const positions{0, 4, 5, 11};
  std::vector<double> expected;
  for (auto const p : positions) expected.push_back(dw(p / 3, p % 3));
  CHECK(difference(sampled<sara::flat_index<host>, double>({4, 3}, positions, sara::view(dy), sara::view(x)), expected,
                   {1e-14, 1e-14}) == "");
}

TEST_CASE_TEMPLATE("any batch, any selection", Store, SARA_HOST_STORES) {
  sara::matrix_shape const shape{10, 33};
  auto const every = sara::test::every_position(330);
  auto const few_rows = std::vector<std::int64_t>{2 * 33, 2 * 33 + 32, 9 * 33 + 5};
  for (std::int64_t const batch : {1, 2, 15, 16, 17, 33}) {
    auto const dy = uniform<float>("dy", batch * shape.rows);
    auto const x = uniform<float>("x", batch * shape.cols);
    auto const dy_view = sara::view(dy.data(), {batch, shape.rows});
    auto const x_view = sara::view(x.data(), {batch, shape.cols});
    auto const dense = linear_gradient(dy_view, x_view);
    for (auto const& positions : {std::vector<std::int64_t>{}, every, few_rows})
      CHECK(difference(sampled<Store, float>(shape, positions, dy_view, x_view), at_positions(dense, positions),
                       {1e-5, 1e-5}) == "");
  }
  SUBCASE("a batch of none") {
    float const nothing = 0;
    auto const gradient =
        sampled<Store, float>(shape, few_rows, sara::view(&nothing, {0, 10}), sara::view(&nothing, {0, 33}));
    CHECK(gradient == std::vector<float>(3));
  }
  SUBCASE("no batch dimension") {
    auto const dy = uniform<float>("dy", 10);
    auto const x = uniform<float>("x", 33);
    auto const gradient = sampled<Store, double>(shape, few_rows, sara::view(dy), sara::view(x));
    CHECK(gradient[1] == doctest::Approx(static_cast<double>(dy[2]) * static_cast<double>(x[32])));
  }
}

TEST_CASE("gradients add up") {
  std::vector<float> const dy{1, 2}, x{3, 4};
  auto const store = make_store<sara::flat_index<host>>(host{1}, {2, 2}, {1, 2});
  std::vector<double> gradient{100, 200};
  for (int pass = 0; pass < 2; ++pass)
    sara::accumulate_linear(host{1}, sara::view(dy), sara::view(x), store.ref(), gradient.data());
  CHECK(gradient == std::vector<double>{108, 212});
}

TEST_CASE("the bias at its selected entries") {
  auto const dy = uniform<double>("dy", 3 * 4 * 7);
  auto const view = sara::view(dy.data(), {3, 4, 7});
  auto const store = make_store<sara::bitmask<host>>(host{1}, {7, 1}, {0, 4, 6});
  std::vector<double> gradient(3);
  sara::accumulate_linear_bias(host{1}, view, store.ref(), gradient.data());
  std::vector<double> expected(3);
  for (std::size_t b = 0; b < 12; ++b)
    for (std::size_t j = 0; j < 3; ++j) expected[j] += dy[b * 7 + (j == 0 ? 0 : 2 * j + 2)];
  CHECK(difference(gradient, expected, {1e-14, 0}) == "");
}

TEST_CASE("what does not fit") {
  std::vector<float> const data(100);
  std::vector<float> gradient(1);
  auto const store = make_store<sara::flat_index<host>>(host{1}, {4, 3}, {1});
  auto const refusal = [&]<class E>(const_tensor_view const& dy, const_tensor_view const& x,
                                    std::string const& problem) {
    return complaint<E>([&] { sara::accumulate_linear(host{1}, dy, x, store.ref(), gradient.data()); },
                        {"linear", problem});
  };
  auto const of = [&](extents const& shape) { return sara::view(data.data(), shape); };
  using sara::shape_error;
  CHECK(refusal.operator()<shape_error>(of({5, 3}), of({5, 3}), "expected dY [..., 4] and X [..., 3]") == "");
  CHECK(refusal.operator()<shape_error>(of({5, 4}), of({5, 4}), "got [5, 4] and [5, 4]") == "");
  CHECK(refusal.operator()<shape_error>(of({5, 4}), of({6, 3}), "as many rows") == "");
  CHECK(refusal.operator()<shape_error>(of({}), of({3}), "expected dY") == "");
  CHECK(refusal.operator()<sara::memory_error>(sara::view(data.data(), {5, 4}, sara::memory::cuda), of({5, 3}), "dY") ==
        "");
  CHECK(refusal.operator()<sara::memory_error>(of({5, 4}), sara::view(data.data(), {5, 3}, sara::memory::cuda), "X") ==
        "");
}
