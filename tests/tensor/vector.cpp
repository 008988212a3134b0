// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <type_traits>
#include <utility>
#include <vector>

#include <sara/tensor/vector.hpp>

TEST_CASE_TEMPLATE("a vector has one dimension and its own dtype", T, double, float, sara::bfloat16, sara::float16) {
  std::vector<T> data(3);
  auto const v = sara::view(data);
  static_assert(std::is_same_v<decltype(v), sara::tensor_view const>);
  static_assert(std::is_same_v<decltype(sara::view(std::as_const(data))), sara::const_tensor_view>);
  CHECK(v.shape() == sara::extents{3});
  CHECK(v.type() == sara::dtype_of<T>);
  v.template as<T>()[2] = sara::narrow<T>(1.5);
  CHECK(sara::widen(data[2]) == 1.5);
}

TEST_CASE("an empty vector is an empty tensor") {
  std::vector<float> data;
  CHECK(sara::view(data).size() == 0);
}
