// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

#include <sara/tensor/view.hpp>

#include "../support/compare.hpp"
#include "../support/layout.hpp"

namespace {

using sara::const_tensor_view;
using sara::extents;
using sara::tensor_view;
using sara::test::complaint;

std::vector<double> read(const_tensor_view const& v) {
  std::vector<double> out;
  auto const elements = v.as<double>();
  for (std::int64_t i = 0; i < elements.count; ++i) out.push_back(elements[i]);
  return out;
}

}  // namespace

TEST_CASE("extents hold up to eight entries") {
  extents const none{};
  CHECK(none.rank() == 0);
  CHECK(none.product() == 1);
  extents eight{1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(eight.product() == 40320);
  CHECK(extents{2, 0, 5}.product() == 0);
  CHECK(complaint<sara::shape_error>([&] { eight.push_back(9); }, {"at most 8"}) == "");
  CHECK(extents{2, 3} == extents{2, 3});
  CHECK(extents{2, 3} != extents{2, 3, 1});
  CHECK(sara::detail::text(extents{2, 3, 4}, none) == "[2, 3, 4][]");
  CHECK(sara::row_major_strides({2, 3, 4}) == extents{12, 4, 1});
}

TEST_CASE("elements come in row-major order whatever the strides") {
  std::vector<double> data(24);
  std::iota(data.begin(), data.end(), 0.0);

  const_tensor_view const dense{data.data(), {2, 3, 4}};
  CHECK(dense.dense());
  CHECK(read(dense) == data);

  const_tensor_view const transposed{data.data(), {4, 6}, {1, 4}};
  CHECK_FALSE(transposed.dense());
  CHECK(read(transposed)[1] == 4);
  CHECK(read(transposed)[6] == 1);
  CHECK(read(transposed) == sara::test::values_of(transposed));

  const_tensor_view const every_other{data.data() + 1, {2, 3}, {12, 2}};
  CHECK(read(every_other) == std::vector<double>{1, 3, 5, 13, 15, 17});

  const_tensor_view const backwards{data.data() + 3, {4}, {-1}};
  CHECK(read(backwards) == std::vector<double>{3, 2, 1, 0});

  const_tensor_view const broadcast{data.data() + 7, {2, 2}, {0, 0}};
  CHECK(read(broadcast) == std::vector<double>{7, 7, 7, 7});

  const_tensor_view const scalar{data.data() + 5, {}};
  CHECK(scalar.size() == 1);
  CHECK(scalar.dense());
  CHECK(read(scalar) == std::vector<double>{5});
}

TEST_CASE("strides of extents of one do not matter for density") {
  std::vector<float> data(6);
  CHECK(const_tensor_view{data.data(), {1, 6, 1}, {99, 1, 77}}.dense());
  CHECK_FALSE(const_tensor_view{data.data(), {2, 3}, {1, 2}}.dense());
}

TEST_CASE("what a view refuses") {
  std::vector<float> data(6);
  float* const null = nullptr;
  CHECK(complaint<sara::shape_error>([&] { tensor_view(data.data(), {2, -3}); }, {"at least 0", "[2, -3]"}) == "");
  CHECK(complaint<sara::shape_error>(
            [&] {
              tensor_view(data.data(), {2, 3}, {1});
            },
            {"expected 2 strides", "[2, 3]", "got 1"}) == "");
  CHECK(complaint<sara::shape_error>([&] { tensor_view(null, {2, 3}); }, {"[2, 3]", "null"}) == "");
  CHECK_NOTHROW(tensor_view(null, {0, 3}));
  CHECK(complaint<sara::dtype_error>([&] { static_cast<void>(tensor_view(data.data(), {6}).as<sara::float16>()); },
                                     {"expected float16", "got float32"}) == "");
}

TEST_CASE("a view of what is read only gives nothing to write") {
  static_assert(std::is_convertible_v<tensor_view, const_tensor_view>);
  static_assert(!std::is_convertible_v<const_tensor_view, tensor_view>);
  static_assert(std::is_constructible_v<const_tensor_view, float const*, extents>);
  static_assert(!std::is_constructible_v<tensor_view, float const*, extents>);
  static_assert(!std::is_constructible_v<const_tensor_view, int const*, extents>);
  static_assert(std::is_trivially_copyable_v<const_tensor_view> && std::is_trivially_copyable_v<sara::entries<float>>);
  static_assert(std::is_same_v<decltype(std::declval<const_tensor_view>().as<float>().data), float const*>);

  std::vector<float> data(6);
  tensor_view const writable{data.data(), {2, 3}, {1, 2}, sara::memory::cuda};
  writable.as<float>()[1] = 4;
  CHECK(data[2] == 4);
  const_tensor_view const readable = writable;
  CHECK(readable.shape() == extents{2, 3});
  CHECK(readable.stride() == extents{1, 2});
  CHECK(readable.type() == sara::dtype::float32);
  CHECK(readable.where() == sara::memory::cuda);
  CHECK(const_tensor_view{}.size() == 0);
}

TEST_CASE("a weight as a matrix") {
  using sara::matrix_shape;
  static_assert(matrix_shape::of({8, 4, 3, 3}) == matrix_shape{8, 36});
  static_assert(matrix_shape::of({8, 4}) == matrix_shape{8, 4});
  static_assert(matrix_shape::of({8}) == matrix_shape{8, 1});
  static_assert(matrix_shape::of({}) == matrix_shape{1, 1});
  static_assert(matrix_shape::of({0, 4}).size() == 0);
  CHECK(sara::detail::text(sara::memory::host, ", ", sara::memory::cuda) == "host memory, CUDA device memory");
}
