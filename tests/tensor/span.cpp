// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/tensor/span.hpp>

#include "../support/compare.hpp"
#include "../support/layout.hpp"

TEST_CASE("a span with extents") {
  std::vector<float> data{1, 2, 3, 4, 5, 6};
  sara::shaped_span const weights{std::span{data}, {2, 3}};
  auto const v = sara::view(weights);
  static_assert(std::is_same_v<decltype(v), sara::tensor_view const>);
  CHECK(v.shape() == sara::extents{2, 3});
  v.as<float>()[3] = 40;
  CHECK(data[3] == 40);
  CHECK(weights.data().size() == 6);
  CHECK(weights.shape() == sara::extents{2, 3});
}

TEST_CASE("a span of what is const is only read") {
  std::vector<double> const data{1, 2};
  sara::shaped_span const weights{std::span{data}, {2, 1}};
  static_assert(!sara::WritableTensor<decltype(weights)>);
  CHECK(sara::test::values_of(sara::view(weights)) == data);
  static_assert(std::is_same_v<decltype(sara::view(std::span{data})), sara::const_tensor_view>);
}

TEST_CASE("a span alone has one dimension") {
  sara::float16 data[3];
  CHECK(sara::view(std::span{data}).shape() == sara::extents{3});
  CHECK(sara::view(std::span{data}).type() == sara::dtype::float16);
  static_assert(!sara::ReadableTensor<std::span<int>>);
}

TEST_CASE("extents must count the elements") {
  std::vector<float> data(6);
  CHECK(sara::test::complaint<sara::shape_error>(
            [&] {
              sara::shaped_span(std::span{data}, {2, 4});
            },
            {"expected 8", "[2, 4]", "got 6"}) == "");
}
