// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/backprop/conv2d.hpp>
#include <sara/backprop/embedding.hpp>
#include <sara/backprop/linear.hpp>
#include <sara/store/row_index.hpp>

#include "../support/compare.hpp"
#include "../support/convolution.hpp"
#include "../support/golden.hpp"
#include "../support/layout.hpp"
#include "../support/placed.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace sara::test {

/// The sampled gradient of a Linear layer, or of a convolution with a geometry, from tensors in host memory.
template <Real R, class Backend, class Accumulate>
[[nodiscard]] std::vector<R> sampled_there(Backend const& backend, matrix_shape shape,
                                           std::vector<std::int64_t> const& positions, Accumulate&& accumulate) {
  auto const store = placed_store<row_index<Backend>>(backend, shape, positions);
  auto gradient = place(backend, std::vector<R>(positions.size(), R{1}));
  accumulate(store.ref(), gradient.data());
  auto out = gradient.get();
  for (auto& g : out) g -= 1;  // gradients are added to what is there
  return out;
}

template <Real R>
inline constexpr tolerance for_products{std::same_as<R, float> ? 3e-5 : 1e-12, std::same_as<R, float> ? 1e-5 : 1e-12};

/// Empty if the gradient of a Linear layer at the positions is the dense one.
template <Real R, class Backend, class Dy, class X>
[[nodiscard]] std::string linear_fault(Backend const& backend, laid_out<Dy> const& dy, laid_out<X> const& x,
                                       std::vector<std::int64_t> const& positions) {
  auto const expected = at_positions(linear_gradient(dy.view(), x.view()), positions);
  placed_tensor const dy_there{backend, dy.view(), dy.size()};
  placed_tensor const x_there{backend, x.view(), x.size()};
  auto const last = [](const_tensor_view const& v) { return v.shape()[v.rank() - 1]; };
  auto const got = sampled_there<R>(backend, {last(dy.view()), last(x.view())}, positions, [&](auto ref, R* to) {
    sara::accumulate_linear(backend, dy_there.view(), x_there.view(), ref, to);
  });
  return difference(got, expected, for_products<R>);
}

template <Real R, Scalar T, Scalar X = T, class Backend>
[[nodiscard]] std::string convolution_fault(Backend const& backend, convolution const& c, double density,
                                            extents const& order = {0, 1, 2, 3}) {
  laid_out<T> const dy{uniform<double>("dy", c.dy().product()), c.dy(), order};
  laid_out<X> const x{uniform<double>("x", c.x.product()), c.x, order};
  auto const positions = random_positions("m", c.weight.product(), density);
  auto const expected = at_positions(conv2d_gradient(c.weight, dy.view(), x.view(), c.geometry), positions);
  placed_tensor const dy_there{backend, dy.view(), dy.size()};
  placed_tensor const x_there{backend, x.view(), x.size()};
  auto const got = sampled_there<R>(backend, matrix_shape::of(c.weight), positions, [&](auto ref, R* to) {
    sara::accumulate_conv2d(backend, c.weight, dy_there.view(), x_there.view(), c.geometry, ref, to);
  });
  return difference(got, expected, for_products<R>);
}

}  // namespace sara::test

TEST_CASE_TEMPLATE_DEFINE("a Linear layer's gradient at any positions, shapes and dtypes", Place, sara_linear) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    sequence numbers{"linear"};
    for (int i = 0; i < 30; ++i) {
      CAPTURE(i);
      auto const batch = i % 5 == 0 ? 1 : numbers.integer(1, 100);
      auto const out = numbers.integer(1, 70);
      auto const in = numbers.integer(1, 90);
      auto const positions =
          random_positions("m", out * in, std::array{0.0, 0.02, 0.3, 1.0}[static_cast<std::size_t>(i % 4)]);
      auto const dy = uniform<double>("dy", batch * out);
      auto const x = uniform<double>("x", batch * in);
      auto const order = i % 3 == 2 ? sara::extents{1, 0} : sara::extents{0, 1};  // a transposed batch as well
      auto const gap = i % 7 == 6 ? 1 : 0;
      auto const check = [&]<class Dy, class X>(Dy, X) {
        laid_out<Dy> const left{dy, {batch, out}, order, gap};
        laid_out<X> const right{x, {batch, in}, order, gap};
        CHECK(linear_fault<float>(backend, left, right, positions) == "");
        CHECK(linear_fault<double>(backend, left, right, positions) == "");
      };
      check(0.0, 0.0);
      check(0.0f, 0.0f);
      check(sara::bfloat16{}, sara::bfloat16{});
      check(sara::float16{}, sara::float16{});
      check(0.0f, sara::bfloat16{});
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("a Linear layer's gradient, panel by panel and slice by slice", Place, sara_large_linear) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    std::int64_t const batch = 3, out = 300, in = 12'000;  // rows of 96 kB
    auto const positions = random_positions("m", out * in, 0.01);
    laid_out<float> const dy{uniform<float>("dy", batch * out), {batch, out}, {0, 1}};
    laid_out<float> const x{uniform<float>("x", batch * in), {batch, in}, {0, 1}};
    CHECK(linear_fault<float>(backend, dy, x, positions) == "");
    std::int64_t const tokens = 3000, width = 1500;  // copies of 36 MB
    std::vector<std::int64_t> const few{0, 7, 1500, 2 * 1500 - 1};
    laid_out<float> const tall_dy{uniform<float>("dy", tokens * 2), {tokens, 2}, {0, 1}};
    laid_out<double> const tall_x{uniform<float>("x", tokens * width), {tokens, width}, {0, 1}};
    CHECK(linear_fault<double>(backend, tall_dy, tall_x, {few.begin(), few.end() - 1}) == "");
  }
}

TEST_CASE_TEMPLATE_DEFINE("golden gradients of convolutions, and of their biases", Place, sara_golden_conv2d) {
  using namespace sara::test;
  auto const& file = golden("gradients.safetensors");
  for (auto const& backend : Place::all())
    for (std::string const name : {"conv_k3s1p1", "conv_k3s2p1", "conv_k1s1p0", "conv_k3s1p0", "conv_k5x3s2x1p2x1",
                                   "conv_k3s1p2d2", "conv_k3s1p1g2", "conv_k3s2p0_rem"}) {
      CAPTURE(name);
      auto const index = file.template read<std::int32_t>(name + ".idx");
      auto const g = file.template read<std::int64_t>(name + ".conv", 7);
      sara::conv2d_geometry const geometry{{g[0], g[1]}, {g[2], g[3]}, {g[4], g[5]}, g[6]};
      auto const weight = shape_of(file.at(name + ".w"));
      auto const dy = place(backend, file.template read<float>(name + ".dy"));
      auto const x = place(backend, file.template read<float>(name + ".x"));
      auto const dy_view = dy.view(shape_of(file.at(name + ".dy")));
      auto const x_view = x.view(shape_of(file.at(name + ".x")));
      auto const dw = sampled_there<float>(
          backend, sara::matrix_shape::of(weight), {index.begin(), index.end()},
          [&](auto ref, float* to) { sara::accumulate_conv2d(backend, weight, dy_view, x_view, geometry, ref, to); });
      CHECK(difference(dw, file.template read<float>(name + ".dw_compact"), {1e-5, 1e-5}) == "");
      auto const db =
          sampled_there<float>(backend, {weight[0], 1}, every_position(weight[0]),
                               [&](auto ref, float* to) { sara::accumulate_conv2d_bias(backend, dy_view, ref, to); });
      CHECK(difference(db, file.template read<float>(name + ".db"), {1e-5, 1e-5}) == "");
    }
}

TEST_CASE_TEMPLATE_DEFINE("a convolution's gradient for any geometry", Place, sara_conv2d) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    sequence numbers{"geometry"};
    std::array<std::array<std::int64_t, 2>, 5> const kernels{{{1, 1}, {3, 3}, {5, 3}, {2, 4}, {1, 3}}};
    for (int i = 0; i < 40; ++i) {
      CAPTURE(i);
      auto const& kernel = kernels[static_cast<std::size_t>(numbers.integer(0, 4))];
      convolution c;
      c.geometry.groups = numbers.integer(1, 3);
      c.geometry.stride = {numbers.integer(1, 3), numbers.integer(1, 3)};
      c.geometry.dilation = {numbers.integer(1, 3), numbers.integer(1, 3)};
      c.geometry.padding = {numbers.integer(0, 5), numbers.integer(0, 5)};
      c.weight = {c.geometry.groups * numbers.integer(1, 3), numbers.integer(1, 3), kernel[0], kernel[1]};
      c.x = {numbers.integer(1, 3), c.weight[1] * c.geometry.groups, numbers.integer(1, 9), numbers.integer(1, 9)};
      CHECK(convolution_fault<double, double>(backend, c, 0.4) == "");
      CHECK(convolution_fault<float, float>(backend, c, 0.9, {0, 2, 3, 1}) == "");
      CHECK(convolution_fault<float, sara::bfloat16>(backend, c, 0.4) == "");
      CHECK(convolution_fault<float, sara::bfloat16, float>(backend, c, 0.4, {1, 0, 3, 2}) == "");
      CHECK(convolution_fault<double, sara::float16>(backend, c, 0.4) == "");
    }
    CHECK(convolution_fault<float, float>(backend, {{12, 9, 1, 1}, {2, 9, 33, 40}, {}}, 0.2) == "");
    CHECK(convolution_fault<float, float>(backend, {{12, 9, 1, 1}, {1, 9, 3, 4}, {}}, 0.2) == "");
    // several panels of channels
    CHECK(convolution_fault<float, float>(backend, {{600, 500, 3, 3}, {1, 500, 2, 2}, {.padding = {1, 1}}}, 0.1) == "");
    // several slices of pixels, one of which begins in an image and ends in the next
    CHECK(convolution_fault<float, float>(backend, {{2, 512, 3, 3}, {2, 512, 48, 48}, {.padding = {1, 1}}}, 0.05) ==
          "");
  }
}

TEST_CASE_TEMPLATE_DEFINE("an embedding's gradient", Place, sara_embedding) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    std::int64_t const rows = 20, width = 7, tokens = 90;
    sequence numbers{"tokens"};
    std::vector<std::int64_t> index;
    for (std::int64_t t = 0; t < tokens; ++t) index.push_back(numbers.integer(0, rows - 2));
    auto const dy = uniform<float>("dy", tokens * width);
    std::vector<double> dense(static_cast<std::size_t>(rows * width));
    for (std::size_t t = 0; t < index.size(); ++t)
      for (std::size_t c = 0; c < static_cast<std::size_t>(width); ++c)
        dense[static_cast<std::size_t>(index[t] * width) + c] +=
            static_cast<double>(dy[t * static_cast<std::size_t>(width) + c]);
    auto const positions = random_positions("m", rows * width, 0.5);
    auto const there = place(backend, dy);
    auto const got = sampled_there<float>(backend, {rows, width}, positions, [&](auto ref, float* to) {
      sara::accumulate_embedding(backend, there.view({9, 10, width}), index, ref, to);
    });
    CHECK(difference(got, at_positions(dense, positions), {1e-5, 1e-5}) == "");
    auto const none = sampled_there<float>(backend, {rows, width}, positions, [&](auto ref, float* to) {
      sara::accumulate_embedding(backend, there.view({0, width}), {}, ref, to);
    });
    CHECK(none == std::vector<float>(positions.size()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("a tensor in other memory is refused", Place, sara_other_memory) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    constexpr auto elsewhere = Place::backend::where == sara::memory::host ? sara::memory::cuda : sara::memory::host;
    float value = 0;
    sara::const_tensor_view const wrong{&value, {1, 1}, elsewhere};
    auto const right = place(backend, std::vector<float>{1});
    auto const add = [&](sara::const_tensor_view const& dy, sara::const_tensor_view const& x) {
      return complaint<sara::memory_error>(
          [&] {
            static_cast<void>(sampled_there<float>(
                backend, {1, 1}, {0}, [&](auto ref, float* to) { sara::accumulate_linear(backend, dy, x, ref, to); }));
          },
          {"linear", "expected a tensor in"});
    };
    CHECK(add(wrong, right.view({1, 1})) == "");
    CHECK(add(right.view({1, 1}), wrong) == "");
  }
}

#define SARA_PRODUCT_CASES(Place)                       \
  TEST_CASE_TEMPLATE_INVOKE(sara_linear, Place);        \
  TEST_CASE_TEMPLATE_INVOKE(sara_large_linear, Place);  \
  TEST_CASE_TEMPLATE_INVOKE(sara_golden_conv2d, Place); \
  TEST_CASE_TEMPLATE_INVOKE(sara_conv2d, Place);        \
  TEST_CASE_TEMPLATE_INVOKE(sara_embedding, Place);     \
  TEST_CASE_TEMPLATE_INVOKE(sara_other_memory, Place)
