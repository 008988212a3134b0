// SPDX-License-Identifier: Apache-2.0
// Where a fine_tuner's updates belong: in the backward pass, while a layer's weights are in cache, or all in step().
#include <sara/select/ranked.hpp>
#include <sara/tensor/traits.hpp>
#include <sara/tune/fine_tuner.hpp>

#include <Eigen/Core>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "harness/case.hpp"
#include "harness/inputs.hpp"

namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::int64_t layers = 16, side = 1280;

/// The backward passes of a stack of Linear layers, whose weights together are larger than any cache.
struct work {
  std::int64_t batch;
  bool in_backward;
  std::vector<matrix> weights = random_weights();
  matrix x = Eigen::Map<matrix const>{bench::uniform("x", batch* side).data(), batch, side};
  matrix dy = Eigen::Map<matrix const>{bench::uniform("dy", batch* side).data(), batch, side};
  matrix dx = matrix(batch, side);
  sara::fine_tuner<sara::host, float, sara::random, sara::constant_rate> tuner;

  work(std::int64_t rows, double density, int threads, bool early)
      : batch{rows},
        in_backward{early},
        tuner{sara::host{threads}, named(), sara::random{.fraction = density}, sara::constant_rate{.rate = 1e-3}} {}

  [[nodiscard]] static std::vector<matrix> random_weights() {
    auto const values = bench::uniform("weights", side * side);
    return std::vector<matrix>(layers, Eigen::Map<matrix const>{values.data(), side, side});
  }
  [[nodiscard]] std::vector<sara::named_tensor> named() {
    std::vector<sara::named_tensor> out;
    for (auto& w : weights) out.push_back({std::to_string(out.size()), sara::view(w.data(), {side, side})});
    return out;
  }

  [[nodiscard]] std::span<float const> first_weight() const {
    return {weights.front().data(), static_cast<std::size_t>(side * side)};
  }

  void step() {
    for (std::int64_t i = layers - 1; i >= 0; --i) {
      auto const name = std::to_string(i);
      dx.noalias() = dy * weights[static_cast<std::size_t>(i)];
      tuner[name].accumulate(sara::view(dy.data(), {batch, side}), sara::view(x.data(), {batch, side}));
      if (in_backward) tuner.update_in_backward(name);
    }
    tuner.step();
  }
};

bench::trial prepare(std::int64_t batch, double density, int threads) {
  auto const early = std::make_shared<work>(batch, density, threads, true);
  auto const late = std::make_shared<work>(batch, density, threads, false);
  bench::trial t;
  t.tolerance = 0;
  t.sara = {"sara", bench::timed([early] { early->step(); }), early->tuner.memory().total()};
  t.peers.push_back({"all updates in step()", bench::timed([late] { late->step(); }), late->tuner.memory().total(),
                     [=] { return bench::relative_difference(early->first_weight(), late->first_weight()); }});
  auto const entries = static_cast<double>(early->tuner.learning());
  auto const all = static_cast<double>(layers * side * side);
  t.flops = 2 * static_cast<double>(batch) * (all + entries) + 14 * entries;
  t.bytes = 4 * all + 28 * entries;
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  for (double const density : bench::densities)
    all.push_back({.name = "update_in_backward",
                   .shape = "16 x Linear 1280x1280 B32",
                   .density = density,
                   .prepare = [=](int threads) { return prepare(32, density, threads); }});
  return all;
}

bench::family const family{"7 tuner", list};

}  // namespace
