// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/backprop/conv2d.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/convolution.hpp"
#include "../support/golden.hpp"
#include "../support/layout.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::const_tensor_view;
using sara::conv2d_geometry;
using sara::extents;
using sara::host;
using sara::test::at_positions;
using sara::test::complaint;
using sara::test::conv2d_gradient;
using sara::test::convolution;
using sara::test::difference;
using sara::test::golden;
using sara::test::laid_out;
using sara::test::make_store;
using sara::test::random_positions;
using sara::test::uniform;

template <class Store, sara::Real R>
std::vector<R> sampled(extents const& weight, std::vector<std::int64_t> const& positions, const_tensor_view const& dy,
                       const_tensor_view const& x, conv2d_geometry const& geometry) {
  host const backend{2};
  auto const store = make_store<Store>(backend, sara::matrix_shape::of(weight), positions);
  std::vector<R> gradient(positions.size());
  sara::accumulate_conv2d(backend, weight, dy, x, geometry, store.ref(), gradient.data());
  return gradient;
}

template <class Store, sara::Real R>
void check_golden_conv2d(std::string const& name) {
  CAPTURE(name);
  auto const& file = golden("gradients.safetensors");
  auto const dy = file.read<float>(name + ".dy");
  auto const x = file.read<float>(name + ".x");
  auto const index = file.read<std::int32_t>(name + ".idx");
  auto const g = file.read<std::int64_t>(name + ".conv", 7);
  conv2d_geometry const geometry{{g[0], g[1]}, {g[2], g[3]}, {g[4], g[5]}, g[6]};
  auto const weight = sara::test::shape_of(file.at(name + ".w"));
  std::vector<std::int64_t> const positions(index.begin(), index.end());
  CHECK(positions == sara::test::positions_in(file.read<bool>(name + ".mask")));

  auto const dy_view = sara::view(dy.data(), sara::test::shape_of(file.at(name + ".dy")));
  auto const x_view = sara::view(x.data(), sara::test::shape_of(file.at(name + ".x")));
  auto const gradient = sampled<Store, R>(weight, positions, dy_view, x_view, geometry);
  CHECK(difference(gradient, file.read<float>(name + ".dw_compact"), {1e-5, 1e-5}) == "");

  auto const every = sara::test::every_position(weight[0]);
  auto const bias = make_store<Store>(host{1}, {weight[0], 1}, every);
  std::vector<R> db(every.size());
  sara::accumulate_conv2d_bias(host{1}, dy_view, bias.ref(), db.data());
  CHECK(difference(db, file.read<float>(name + ".db"), {1e-5, 1e-5}) == "");
}

/// Empty if the sampled gradient is the dense one at random positions.
template <class Store, class R = double>
std::string deviation(convolution const& c, double density = 0.4) {
  auto const dy = uniform<R>("dy", c.dy().product());
  auto const x = uniform<R>("x", c.x.product());
  auto const dy_view = sara::view(dy.data(), c.dy());
  auto const x_view = sara::view(x.data(), c.x);
  auto const positions = random_positions("m", c.weight.product(), density);
  auto const expected = at_positions(conv2d_gradient(c.weight, dy_view, x_view, c.geometry), positions);
  auto const allowed = std::same_as<R, float> ? 2e-5 : 1e-12;
  return difference(sampled<Store, R>(c.weight, positions, dy_view, x_view, c.geometry), expected, {allowed, allowed});
}

/// Whether so many entries are worth a copy of X for each column of the kernel.
bool copies_pay(convolution const& c, double density) {
  return density * static_cast<double>(c.weight.product()) >
         1.1 * static_cast<double>(sara::detail::aligned_from * c.x[1] * c.weight[3]);
}

}  // namespace

TEST_CASE_TEMPLATE("golden gradients", Store, SARA_HOST_STORES) {
  for (auto const* name : {"conv_k3s1p1", "conv_k3s2p1", "conv_k1s1p0", "conv_k3s1p0", "conv_k5x3s2x1p2x1",
                           "conv_k3s1p2d2", "conv_k3s1p1g2", "conv_k3s2p0_rem"}) {
    check_golden_conv2d<Store, float>(name);
    check_golden_conv2d<Store, double>(name);
  }
}

TEST_CASE("a convolution's gradient at selected entries only") {
  auto const dy = uniform<float>("dy", 2 * 8 * 6 * 6);
  auto const x = uniform<float>("x", 2 * 4 * 6 * 6);
  std::vector<std::int64_t> const selected{0, 50, 287};
  // [conv2d]
  sara::extents const weight{8, 4, 3, 3};
  sara::host const backend;
  sara::row_index const store{backend, sara::matrix_shape::of(weight), selected.data(), std::ssize(selected)};

  std::vector<float> gradient(selected.size());
  sara::accumulate_conv2d(backend, weight, sara::view(dy.data(), {2, 8, 6, 6}), sara::view(x.data(), {2, 4, 6, 6}),
                          {.padding = {1, 1}}, store.ref(), gradient.data());
  // [/conv2d]
  auto const dense = conv2d_gradient(weight, sara::view(dy.data(), {2, 8, 6, 6}), sara::view(x.data(), {2, 4, 6, 6}),
                                     {.padding = {1, 1}});
  CHECK(difference(gradient, at_positions(dense, selected), {1e-5, 1e-5}) == "");
}

TEST_CASE("random geometry") {
  sara::test::sequence numbers{"geometry"};
  std::array<std::array<std::int64_t, 2>, 5> const kernels{{{1, 1}, {3, 3}, {5, 3}, {2, 4}, {1, 3}}};
  int nonempty = 0, aligned = 0;
  for (int i = 0; i < 150; ++i) {
    auto const& kernel = kernels[static_cast<std::size_t>(numbers.integer(0, 4))];
    convolution c;
    c.geometry.groups = numbers.integer(1, 3);
    c.geometry.stride = {numbers.integer(1, 3), numbers.integer(1, 3)};
    if (i % 2 == 0) c.geometry.stride = {1, 1};
    c.geometry.dilation = {numbers.integer(1, 3), numbers.integer(1, 3)};
    c.geometry.padding = {numbers.integer(0, 7), numbers.integer(0, 7)};  // past the kernel too
    c.weight = {c.geometry.groups * numbers.integer(1, 8), numbers.integer(1, 3), kernel[0], kernel[1]};
    c.x = {numbers.integer(1, 3), c.weight[1] * c.geometry.groups, numbers.integer(1, 9), numbers.integer(1, 9)};
    auto const set_out_width = [&](std::int64_t width) {
      c.x[3] = std::max<std::int64_t>(1, (width - 1) * c.geometry.stride[1] + c.geometry.dilation[1] * (kernel[1] - 1) +
                                             1 - 2 * c.geometry.padding[1]);
    };
    // rows of whole vectors, which may be copied for each column of the kernel, and images side by side that make such
    if (i % 4 == 0) set_out_width(16 * numbers.integer(1, 2));
    if (i % 4 == 1 || i % 4 == 2) {
      set_out_width(std::int64_t{1} << numbers.integer(0, 3));
      c.x[0] = numbers.integer(1, 20);
    }
    CAPTURE(i);
    CAPTURE(c.weight);
    CAPTURE(c.x);
    CHECK(deviation<sara::flat_index<host>>(c) == "");
    CHECK(deviation<sara::flat_index<host>, float>(c) == "");
    CHECK(deviation<sara::row_index<host>>(c, 0.9) == "");
    CHECK(deviation<sara::row_index<host>>(c, 0.02) == "");
    nonempty += c.dy().product() > 0;
    aligned += c.dy().product() > 0 && c.dy()[3] % 16 == 0 && copies_pay(c, 0.9);
  }
  CHECK(nonempty > 100);
  CHECK(aligned > 10);
}

TEST_CASE("what exceeds the workspace goes band by band and tile by tile") {
  using sara::detail::dy_budget, sara::detail::x_budget;
  auto const check = [](convolution const& c, double density) {
    CHECK(deviation<sara::row_index<host>>(c, density) == "");
    CHECK(deviation<sara::row_index<host>, float>(c, density) == "");
  };
  SUBCASE("an image in several bands") {
    convolution const c{{2, 2, 3, 3}, {1, 2, 300, 150}, {.padding = {1, 1}}};
    REQUIRE(c.dy().product() > 2 * dy_budget);
    check(c, 0.2);
  }
  SUBCASE("rows of whole vectors, several bands and images") {
    convolution const c{{24, 4, 3, 3}, {2, 8, 8, 304}, {.padding = {1, 1}, .groups = 2}};
    REQUIRE(c.dy().product() > 2 * dy_budget);
    REQUIRE(copies_pay(c, 0.4));
    check(c, 0.4);
  }
  SUBCASE("the last band is shorter, dilated, unevenly padded") {
    convolution const c{{6, 2, 3, 2}, {2, 4, 101, 121}, {.padding = {3, 0}, .dilation = {2, 3}, .groups = 2}};
    REQUIRE(c.dy().product() > dy_budget);
    check(c, 0.3);
  }
  SUBCASE("several images in one band, then the rest") {
    convolution const c{{8, 8, 1, 1}, {23, 8, 20, 20}, {}};
    REQUIRE(c.dy().product() > dy_budget);
    check(c, 0.3);
  }
  SUBCASE("strided: a strip for each phase of the pixels") {
    convolution const c{{2, 6, 3, 3}, {1, 6, 440, 190}, {.stride = {2, 2}, .padding = {1, 1}}};
    REQUIRE(c.dy().product() > dy_budget);
    check(c, 0.3);
  }
  SUBCASE("images side by side, stacked, in several groups, the last not full") {
    convolution const c{{40, 60, 3, 3}, {19, 60, 8, 8}, {.padding = {1, 1}}};
    REQUIRE(c.dy().product() > dy_budget);
    REQUIRE(copies_pay(c, 0.3));
    check(c, 0.3);
  }
  SUBCASE("several tiles of input channels") {
    convolution const c{{4, 300, 3, 3}, {2, 300, 9, 32}, {.padding = {1, 1}}};
    REQUIRE(3 * c.x.product() / 2 > 2 * x_budget);
    REQUIRE(copies_pay(c, 0.9));
    check(c, 0.9);
    check(c, 0.01);
  }
  SUBCASE("several tiles of the input channels of groups") {
    convolution const c{{16, 151, 3, 3}, {1, 302, 5, 32}, {.padding = {1, 1}, .groups = 2}};
    REQUIRE(3 * c.x.product() > x_budget);
    REQUIRE(copies_pay(c, 0.5));
    check(c, 0.5);
    check(c, 0.05);
  }
  SUBCASE("one row of all channels exceeds the workspace") {
    convolution const c{{4, 4, 1, 3}, {1, 4, 2, 33'000}, {.padding = {0, 1}}};
    REQUIRE(4 * 33'000 > dy_budget);
    REQUIRE(4 * 33'000 > x_budget);
    check(c, 0.4);
  }
}

TEST_CASE_TEMPLATE("dY and X of any dtypes and orders in memory", T, double, float, sara::bfloat16, sara::float16) {
  for (conv2d_geometry const& geometry :
       {conv2d_geometry{.stride = {2, 1}, .padding = {1, 1}}, conv2d_geometry{.padding = {1, 1}}}) {
    convolution const c{{5, 3, 3, 3}, {2, 3, 6, 7}, geometry};
    auto const dy_values = uniform<double>("dy", c.dy().product());
    auto const x_values = uniform<double>("x", c.x.product());
    auto const positions = random_positions("m", c.weight.product(), 0.4);
    auto const check = [&](const_tensor_view const& dy, const_tensor_view const& x) {
      auto const expected = at_positions(conv2d_gradient(c.weight, dy, x, geometry), positions);
      CHECK(difference(sampled<sara::row_index<host>, double>(c.weight, positions, dy, x, geometry), expected,
                       {1e-12, 1e-12}) == "");
      CHECK(difference(sampled<sara::row_index<host>, float>(c.weight, positions, dy, x, geometry), expected,
                       {1e-5, 1e-5}) == "");
    };
    for (extents const& order : {extents{0, 1, 2, 3}, {1, 0, 2, 3}, {0, 2, 3, 1}, {3, 2, 1, 0}})
      for (std::int64_t const gap : {0, 1}) {
        laid_out<T> const dy{dy_values, c.dy(), order, gap};
        check(dy.view(), laid_out<T>{x_values, c.x, order, gap}.view());
        check(dy.view(), laid_out<sara::float16>{x_values, c.x, order, gap}.view());
      }
  }
}

TEST_CASE("images upside down, whose rows are whole vectors") {
  convolution const c{{8, 2, 3, 3}, {1, 2, 4, 16}, {.padding = {1, 1}}};
  auto const dy = uniform<float>("dy", c.dy().product());
  auto const x = uniform<float>("x", c.x.product());  // rows by height, channel and width, the last row first
  auto const dy_view = sara::view(dy.data(), c.dy());
  const_tensor_view const x_view{x.data() + 3 * 32, c.x, {128, 16, -32, 1}};
  auto const every = sara::test::every_position(c.weight.product());
  CHECK(difference(sampled<sara::row_index<host>, float>(c.weight, every, dy_view, x_view, c.geometry),
                   conv2d_gradient(c.weight, dy_view, x_view, c.geometry), {1e-5, 1e-5}) == "");
}

TEST_CASE_TEMPLATE("empty, full, and rows without entries", Store, SARA_HOST_STORES) {
  convolution const c{{6, 3, 3, 3}, {2, 3, 8, 5}, {.padding = {1, 1}}};
  auto const dy = uniform<double>("dy", c.dy().product());
  auto const x = uniform<double>("x", c.x.product());
  auto const dy_view = sara::view(dy.data(), c.dy());
  auto const x_view = sara::view(x.data(), c.x);
  auto const dense = conv2d_gradient(c.weight, dy_view, x_view, c.geometry);
  auto const every = sara::test::every_position(c.weight.product());
  for (auto const& positions : {std::vector<std::int64_t>{}, every, std::vector<std::int64_t>{30, 31, 161}})
    CHECK(difference(sampled<Store, double>(c.weight, positions, dy_view, x_view, c.geometry),
                     at_positions(dense, positions), {1e-12, 1e-12}) == "");
}

TEST_CASE("a batch of none, and an output of none, add nothing") {
  float const nothing = 0;
  std::vector<std::int64_t> const positions{0, 5};
  auto const add = [&](extents const& dy, extents const& x) {
    return sampled<sara::flat_index<host>, float>({2, 1, 3, 3}, positions, sara::view(&nothing, dy),
                                                  sara::view(&nothing, x), {});
  };
  CHECK(add({0, 2, 4, 4}, {0, 1, 6, 6}) == std::vector<float>(2));
  CHECK(add({1, 2, 0, 0}, {1, 1, 1, 1}) == std::vector<float>(2));
}

TEST_CASE("gradients add up, and so does the bias") {
  std::vector<float> const dy{1, 2, 3, 4}, x{5, 6, 7, 8};
  auto const store = make_store<sara::flat_index<host>>(host{1}, {1, 1}, {0});
  std::vector<double> gradient{100};
  for (int pass = 0; pass < 2; ++pass)
    sara::accumulate_conv2d(host{1}, {1, 1, 1, 1}, sara::view(dy.data(), {1, 1, 2, 2}),
                            sara::view(x.data(), {1, 1, 2, 2}), {}, store.ref(), gradient.data());
  CHECK(gradient[0] == 100 + 2 * 70);
  sara::accumulate_conv2d_bias(host{1}, sara::view(dy.data(), {1, 1, 2, 2}), store.ref(), gradient.data());
  CHECK(gradient[0] == 250);
}

TEST_CASE("what does not fit") {
  std::vector<float> const data(1000);
  std::vector<float> gradient(1);
  auto const store = make_store<sara::flat_index<host>>(host{1}, {4, 26}, {1});
  auto const dy = sara::view(data.data(), {1, 4, 6, 6});
  auto const x = sara::view(data.data(), {1, 3, 8, 8});
  CHECK(complaint<sara::shape_error>(
            [&] {
              sara::accumulate_conv2d(host{1}, {4, 3, 3, 3}, dy, x, {}, store.ref(), gradient.data());
            },
            {"conv2d", "4 x 27", "4 x 26"}) == "");
  CHECK(complaint<sara::shape_error>(
            [&] {
              sara::accumulate_conv2d(host{1}, {4, 3, 3, 3}, x, dy, {}, store.ref(), gradient.data());
            },
            {"conv2d"}) == "");
  CHECK(complaint<sara::shape_error>(
            [&] { sara::accumulate_conv2d_bias(host{1}, sara::view(data), store.ref(), gradient.data()); },
            {"conv2d bias", "[1000]"}) == "");
  CHECK(complaint<sara::memory_error>(
            [&] {
              sara::accumulate_conv2d(host{1}, {4, 3, 3, 3}, dy,
                                      sara::view(data.data(), {1, 3, 8, 8}, sara::memory::cuda), {}, store.ref(),
                                      gradient.data());
            },
            {"conv2d X", "CUDA"}) == "");
}
