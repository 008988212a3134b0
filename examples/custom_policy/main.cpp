// SPDX-License-Identifier: Apache-2.0
// A selector and a scheduler of one's own: structs that model the concepts, no base class, no registration.
#include <cstdio>
#include <vector>

#include <sara/sara.hpp>

/// Selects entries by |w| · (1 + column / columns): small weights, those of early columns first.
struct early_columns {
  double fraction = 0.25;

  struct score_type {  // trivially copyable, so that the same selector runs on a CUDA device
    std::int64_t columns;
    SARA_HOST_DEVICE double operator()(auto w, std::int64_t position) const {
      auto const share = static_cast<double>(position % columns) / static_cast<double>(columns);
      return sara::magnitude{}(w, position) * (1 + share);
    }
  };
  score_type score(sara::const_named_tensor const& w) const { return {sara::matrix_shape::of(w.tensor.shape()).cols}; }
  sara::count_cut cut(sara::const_named_tensor const&) const {
    return {.fraction = fraction, .count = {}, .over = sara::scope::tensor};
  }
};

/// Reselects at 1/4, 1/2 and 3/4 of the run and keeps what is still below a threshold of its own.
struct quarterly {
  std::int64_t steps = 100;
  double threshold = 0.5;

  bool reselects_after(std::int64_t step) const { return step < steps && step % (steps / 4) == 0; }
  sara::smaller_than keep(std::optional<double>) const { return {threshold}; }
};

static_assert(sara::ThresholdSelector<early_columns>);
static_assert(sara::ProgressiveScheduler<quarterly>);

int main() {
  constexpr std::int64_t rows = 8, columns = 12, steps = 100;
  std::vector<float> weight(rows * columns);
  for (std::size_t i = 0; i < weight.size(); ++i)
    weight[i] = static_cast<float>(sara::counter_bits(1, 0, i) % 2001) / 1000.0f - 1.0f;

  std::vector<sara::named_tensor> const weights{{"weight", sara::view(weight.data(), {rows, columns})}};
  sara::fine_tuner tuner{sara::host{},
                         weights,
                         early_columns{.fraction = 0.25},
                         quarterly{.steps = steps},
                         sara::sgd{.momentum = 0.9},
                         sara::constant_rate{.rate = 0.002}};
  std::printf("selected %lld of %zu\n", static_cast<long long>(tuner.learning()), weight.size());

  for (std::int64_t step = 0; step < steps; ++step) {
    auto gradient = weight;  // of ½ Σ (w - 1)²: every weight is drawn to one
    for (auto& g : gradient) g -= 1;
    tuner["weight"].accumulate(sara::view(gradient.data(), {rows, columns}));
    if (auto const report = tuner.step(); report.reselected)
      std::printf("after step %lld: %lld go on learning\n", static_cast<long long>(report.step),
                  static_cast<long long>(report.learning));
  }
  std::printf("%lld entries changed\n", static_cast<long long>(tuner.adapter().count()));
}
