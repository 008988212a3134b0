// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/below.hpp>
#include <sara/select/select.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/stores.hpp"

namespace {

using sara::test::complaint;
using sara::test::golden;

template <class T>
sara::tensor_selection<sara::host> select_below(std::vector<T> const& w, sara::extents const& shape, double threshold,
                                                int threads = 1) {
  sara::const_named_tensor const named[] = {{"w", sara::view(w.data(), shape)}};
  return std::move(sara::select(sara::host{threads}, std::span{named}, sara::below{threshold})[0]);
}

/// Every mask, count, index and value of one tensor of the golden file.
template <class T>
void check_golden(std::string const& name) {
  CAPTURE(name);
  auto const& file = golden("selection.safetensors");
  auto const thetas = file.read<double>("thetas");
  auto const shape = sara::test::shape_of(file.at("w." + name));
  auto const w = file.read<T>("w." + name, shape.product());
  auto const masks = file.read<bool>("mask." + name, std::ssize(thetas) * shape.product());
  auto const counts = file.read<std::int64_t>("count." + name, std::ssize(thetas));
  for (std::size_t j = 0; j < thetas.size(); ++j) {
    auto const found = select_below(w, shape, thetas[j]);
    auto const first = masks.begin() + static_cast<std::ptrdiff_t>(j * w.size());
    CHECK(found.positions == sara::test::positions_in({first, first + std::ssize(w)}));
    CHECK(found.count == counts[j]);
    if (thetas[j] != 2e-3) continue;
    auto const index = file.read<std::int32_t>("idx." + name);
    CHECK(found.positions == std::vector<std::int64_t>(index.begin(), index.end()));
    auto const values = file.read<T>("values." + name, found.count);
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(w[static_cast<std::size_t>(found.positions[i])] == values[i]);
  }
}

}  // namespace

TEST_CASE("golden masks, counts, indices and values") {
  for (auto const* name : {"lin_f32", "conv_f32", "bias_f32", "edge_f32"}) check_golden<float>(name);
  for (auto const* name : {"lin_f16", "edge_f16"}) check_golden<sara::float16>(name);
  for (auto const* name : {"conv_bf16", "edge_bf16"}) check_golden<sara::bfloat16>(name);
}

TEST_CASE("a threshold selects what is strictly below it") {
  // [below]
  std::vector<float> const weights{0.5f, -0.001f, 0.002f, 0.0f, -0.3f, 0.0019f};
  sara::host const backend;
  std::vector<sara::const_named_tensor> const model{{"weights", sara::view(weights)}};

  auto const selected = sara::select(backend, std::span{model}, sara::below{.threshold = 2e-3});

  CHECK(selected[0].positions == std::vector<std::int64_t>{1, 3, 5});
  // [/below]
  CHECK(selected[0].threshold == static_cast<double>(2e-3f));
}

TEST_CASE_TEMPLATE("the edges of a threshold", T, double, float, sara::bfloat16, sara::float16) {
  using limits = std::numeric_limits<sara::widened<T>>;
  auto const theta = sara::narrow<T>(0.125);
  auto const just_below = [&] {
    if constexpr (sizeof(T) == 2) {
      auto x = theta;
      --x.bits;
      return x;
    } else {
      return std::nextafter(theta, T{0});
    }
  }();
  auto const minus = [](T x) { return sara::narrow<T>(-sara::widen(x)); };
  auto const zero = sara::narrow<T>(0.0);
  auto const tiny = sara::narrow<T>(0x1p-24);
  auto const infinity = sara::narrow<T>(limits::infinity());
  auto const nan = sara::narrow<T>(limits::quiet_NaN());
  std::vector<T> const w{theta, minus(theta), just_below, minus(just_below), zero, minus(zero),
                         tiny,  minus(tiny),  infinity,   minus(infinity),   nan,  minus(nan)};

  auto const found = select_below(w, {3, 4}, 0.125);
  CHECK(found.positions == std::vector<std::int64_t>{2, 3, 4, 5, 6, 7});
  CHECK(found.not_finite == 4);
  CHECK(select_below(w, {12}, 0).count == 0);
  CHECK(select_below(w, {12}, std::numeric_limits<double>::infinity()).count == 8);
}

TEST_CASE("the threshold is rounded to the weights' type") {
  std::vector<sara::bfloat16> const w{sara::bfloat16{1.0f}, sara::bfloat16{0.99609375f}};
  CHECK(select_below(w, {2}, 0.999).positions == std::vector<std::int64_t>{1});
  CHECK(select_below(w, {2}, 0.999).threshold == 1.0);
}

TEST_CASE("the paper's settings are the default") {
  CHECK(sara::below{}.threshold == 2e-3);
  static_assert(sara::ThresholdSelector<sara::below> && sara::below::by_magnitude);
}

TEST_CASE("extents in another order in memory") {
  std::vector<float> const w{1, 0, 1, 1, 0, 1};  // column-major: [[1, 1, 0], [0, 1, 1]]
  sara::const_named_tensor const named[] = {{"w", {w.data(), {2, 3}, {1, 2}}}};
  CHECK(sara::select(sara::host{1}, std::span{named}, sara::below{0.5})[0].positions ==
        std::vector<std::int64_t>{2, 3});
}

TEST_CASE("no threshold below zero") {
  std::vector<float> const w(4);
  for (auto const threshold : {-1e-3, -std::numeric_limits<double>::infinity(), std::nan("")})
    CHECK(complaint<sara::value_error>([&] { select_below(w, {4}, threshold); }, {"below", "at least 0"}) == "");
}
