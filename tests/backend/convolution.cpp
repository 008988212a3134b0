// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>

#include <sara/backend/convolution.hpp>

#include "../support/compare.hpp"

namespace {

using sara::conv2d_geometry;
using sara::conv2d_shape;
using sara::test::complaint;

}  // namespace

TEST_CASE("the extents of one convolution") {
  auto const c =
      conv2d_shape::of({8, 3, 5, 3}, {2, 8, 6, 7}, {2, 6, 11, 7}, {.stride = {2, 1}, .padding = {2, 1}, .groups = 2});
  CHECK(c.batch == 2);
  CHECK(c.in == 6);
  CHECK(c.height == 11);
  CHECK(c.width == 7);
  CHECK(c.out == 8);
  CHECK(c.out_height == 6);
  CHECK(c.out_width == 7);
  CHECK(c.in_per_group() == 3);
  CHECK(c.out_per_group() == 4);
  CHECK(c.matrix() == sara::matrix_shape{8, 45});
}

TEST_CASE("output extents") {
  auto const output = [](std::int64_t size, std::int64_t kernel, conv2d_geometry const& g, std::int64_t expected) {
    CHECK_NOTHROW((void)conv2d_shape::of({1, 1, kernel, kernel}, {1, 1, expected, expected}, {1, 1, size, size}, g));
  };
  output(8, 3, {}, 6);
  output(8, 3, {.padding = {1, 1}}, 8);
  output(8, 3, {.stride = {2, 2}}, 3);
  output(9, 3, {.padding = {2, 2}, .dilation = {2, 2}}, 9);
  output(1, 1, {.padding = {5, 5}}, 11);
  output(2, 3, {}, 0);  // the kernel does not fit
  output(2, 4, {.stride = {3, 3}}, 0);
  output(1, 3, {.padding = {1, 1}}, 1);
}

TEST_CASE("what does not belong to one convolution") {
  sara::extents const weight{4, 3, 3, 3}, dy{2, 4, 6, 6}, x{2, 3, 8, 8};
  CHECK_NOTHROW((void)conv2d_shape::of(weight, dy, x, {}));
  using sara::shape_error, sara::value_error;
  auto const shape_refused = [](sara::extents const& w, sara::extents const& g, sara::extents const& v,
                                conv2d_geometry const& geometry, std::string const& problem) {
    return complaint<shape_error>([&] { return conv2d_shape::of(w, g, v, geometry); }, {"conv2d", problem});
  };
  CHECK(shape_refused({4, 27}, dy, x, {}, "4 dimensions") == "");
  CHECK(shape_refused(weight, {2, 4, 36}, x, {}, "4 dimensions") == "");
  CHECK(shape_refused(weight, dy, {3, 8, 8}, {}, "4 dimensions") == "");
  CHECK(shape_refused(weight, dy, {2, 4, 8, 8}, {}, "X of 3 channels") == "");
  CHECK(shape_refused(weight, dy, {2, 9, 8, 8}, {.groups = 3}, "divisible by 3 groups") == "");
  CHECK(shape_refused(weight, {3, 4, 6, 6}, x, {}, "expected dY [2, 4, 6, 6]") == "");
  CHECK(shape_refused(weight, {2, 5, 6, 6}, x, {}, "got [2, 5, 6, 6]") == "");
  CHECK(shape_refused(weight, {2, 4, 8, 8}, x, {}, "expected dY [2, 4, 6, 6]") == "");
  CHECK(shape_refused(weight, dy, x, {.stride = {1, 2}}, "expected dY [2, 4, 6, 3]") == "");

  auto const value_refused = [&](conv2d_geometry const& geometry) {
    return complaint<value_error>([&] { return conv2d_shape::of(weight, dy, x, geometry); }, {"conv2d", ">="});
  };
  CHECK(value_refused({.stride = {0, 1}}) == "");
  CHECK(value_refused({.padding = {0, -1}}) == "");
  CHECK(value_refused({.dilation = {1, 0}}) == "");
  CHECK(value_refused({.groups = 0}) == "");
  auto const far = std::int64_t{1} << 62;  // times a few it is 0
  CHECK(value_refused({.stride = {far, 1}}) == "");
  CHECK(value_refused({.padding = {1, far}}) == "");
  CHECK(value_refused({.dilation = {far, 1}}) == "");
}
