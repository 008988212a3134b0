// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/tensor/span.hpp>
#include <sara/tensor/vector.hpp>
#include <sara/tune/fine_tuner.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/random.hpp"

// Policies of a user: plain structs that model a concept, with no base class and nothing to register.

namespace {

// [custom_selector]
/// A threshold for attention, another for everything else.
struct by_layer {
  double attention = 4e-3;
  double others = 1e-3;

  static constexpr bool by_magnitude = true;  // the score is |w|, so reselection may know the threshold
  sara::magnitude score(sara::const_named_tensor const&) const { return {}; }
  sara::threshold_cut cut(sara::const_named_tensor const& w) const {
    return {sara::matches_glob("*attention*", w.name) ? attention : others};
  }
};
static_assert(sara::ThresholdSelector<by_layer>);
// [/custom_selector]

// [custom_scheduler]
/// Every so many steps, only what is still below half of its threshold goes on learning.
struct tighten {
  struct keep_type {
    double bound;
    bool operator()(double value) const { return -bound < value && value < bound; }
  };

  std::int64_t every = 1000;
  bool reselects_after(std::int64_t step) const { return step % every == 0; }
  keep_type keep(std::optional<double> threshold) const { return {threshold.value_or(0) / 2}; }
};
static_assert(sara::ProgressiveScheduler<tighten>);
// [/custom_scheduler]

// [custom_regularizer]
/// λ Σ v² over the selected entries of all matrices, in place of the nuclear norm.
struct ridge {
  double weight = 1e-2;

  template <class R>
  struct add_pull {
    R const* values;
    R* gradient;
    R factor;
    void operator()(std::int64_t slot, std::int64_t) const { gradient[slot] += factor * values[slot]; }
  };
  template <class R>
  struct loss_of {
    R const* values;
    double weight;
    double operator()(std::int64_t slot, std::int64_t) const {
      return weight * static_cast<double>(values[slot]) * static_cast<double>(values[slot]);
    }
  };

  bool applies_to(sara::extents const& shape) const { return shape.rank() >= 2; }
  sara::matrix_run at(std::int64_t, std::int64_t matrices) const { return {0, matrices}; }
  template <class Backend, class Positions, class R>
  void add(Backend const& backend, std::span<sara::sparse_matrix<Positions, R> const> matrices) const {
    for (auto const& m : matrices) {
      sara::for_each(backend, m.positions, add_pull<R>{m.values, m.gradient, static_cast<R>(2 * weight)});
      sara::reduce(backend, m.positions, loss_of<R>{m.values, weight}, m.loss);
    }
  }
};
static_assert(sara::LowRankRegularizer<ridge, sara::host>);
// [/custom_regularizer]

// [custom_update]
/// Every value goes by the rate, in the direction that the gradients so far point to (Lion without decay).
struct lion {
  double beta1 = 0.9;
  double beta2 = 0.99;

  int moments() const { return 1; }
  template <class R>
  struct kernel_type {
    R rate, beta1, beta2;
    void operator()(R& value, R gradient, sara::moments_of_entry<R> moments) const {
      R const direction = beta1 * moments[0] + (1 - beta1) * gradient;
      value -= direction > 0 ? rate : direction < 0 ? -rate : 0;
      moments[0] = beta2 * moments[0] + (1 - beta2) * gradient;
    }
  };
  template <class R>
  kernel_type<R> kernel(sara::update_step const& s) const {
    return {static_cast<R>(s.rate), static_cast<R>(beta1), static_cast<R>(beta2)};
  }
};
static_assert(sara::UpdateRule<lion>);
// [/custom_update]

/// Lion at a tenth of the rate for biases.
struct careful {
  lion rule;
  int moments() const { return rule.moments(); }
  template <class R>
  lion::kernel_type<R> kernel(sara::update_step const& s) const {
    return rule.template kernel<R>({s.t, s.tensor.ends_with("bias") ? s.rate / 10 : s.rate});
  }
};
static_assert(sara::UpdateRule<careful>);

/// A kernel without a name.
struct descent {
  [[nodiscard]] int moments() const { return 0; }
  template <sara::Real R>
  [[nodiscard]] auto kernel(sara::update_step const& s) const {
    return
        [rate = static_cast<R>(s.rate)](R& value, R gradient, sara::moments_of_entry<R>) { value -= rate * gradient; };
  }
};

/// A kernel for one number at a time, which says so.
struct one_by_one {
  [[nodiscard]] int moments() const { return 0; }
  template <sara::Real R>
  struct kernel_type {
    static constexpr bool on_lanes = false;
    R rate;
    void operator()(R& value, R gradient, sara::moments_of_entry<R>) const {
      value -= std::fmod(rate * gradient, R{1});
    }
  };
  template <sara::Real R>
  [[nodiscard]] kernel_type<R> kernel(sara::update_step const& s) const {
    return {static_cast<R>(s.rate)};
  }
};

/// 1, ½, ⅓, …
struct harmonic {
  std::optional<double> rate = {};
  double factor(std::int64_t step) const { return 1 / static_cast<double>(step + 1); }
};
static_assert(sara::RateSchedule<harmonic>);

/// A model of two matrices and a bias that all learn by the policies above.
struct model {
  std::vector<float> q = sara::test::uniform<float>("q", 6 * 4, 5e-3);
  std::vector<float> up = sara::test::uniform<float>("up", 5 * 4, 5e-3);
  std::vector<float> bias = sara::test::uniform<float>("bias", 5, 5e-3);

  auto weights() {
    return std::vector<std::pair<std::string, sara::shaped_span<float>>>{
        {"attention.q", {q, {6, 4}}}, {"up", {up, {5, 4}}}, {"up.bias", {bias, {5}}}};
  }
};

template <class Tuner>
std::vector<std::int64_t> train(Tuner& tuner, int steps) {
  std::vector<std::int64_t> learning;
  for (int step = 0; step < steps; ++step) {
    for (auto const& about : tuner.tensors())
      tuner[about.name].accumulate(
          sara::test::uniform<float>(about.name + std::to_string(step), about.shape.product()));
    learning.push_back(tuner.step().learning);
  }
  return learning;
}

}  // namespace

TEST_CASE("a user's policies do all the work, in any order of the arguments") {
  model one, other;
  auto const base = one;
  sara::host const backend{2};
  sara::fine_tuner tuner{backend, one.weights(),         by_layer{}, ridge{}, tighten{.every = 3},
                         lion{},  harmonic{.rate = 1e-3}};
  sara::fine_tuner same{backend, other.weights(), harmonic{.rate = 1e-3}, lion{}, tighten{.every = 3},
                        ridge{}, by_layer{}};

  auto const about = tuner.tensors();
  CHECK(*about[0].threshold == 4e-3);
  CHECK(*about[1].threshold == 1e-3);
  for (auto const& tensor : about) CHECK((tensor.selected > 0 && tensor.selected < tensor.shape.product()));

  double ridge_loss = 0;
  for (auto const* matrix : {&base.q, &base.up})
    for (double const w : *matrix)
      if (std::abs(w) < (matrix == &base.q ? 4e-3 : 1e-3)) ridge_loss += 1e-2 * w * w;
  auto const report = tuner.step();  // no gradients but the regularizer's
  CHECK(report.regularizer_loss() == doctest::Approx(ridge_loss).epsilon(1e-5));
  CHECK(report.rate == 1e-3);
  for (std::size_t i = 0; i < base.q.size(); ++i) {
    auto const w = base.q[i];
    auto const expected = w == 0 || std::abs(w) >= 4e-3f ? w : w - std::copysign(1e-3f, w);
    CHECK(one.q[i] == doctest::Approx(expected));
  }
  CHECK(sara::test::same_bits(one.bias, base.bias));  // no matrix, no gradient
  same.step();

  auto const learning = train(tuner, 8);
  CHECK(train(same, 8) == learning);
  CHECK(learning.front() == tuner.selected());
  CHECK(learning[1] < learning[0]);  // after three steps
  CHECK(learning[4] <= learning[1]);
  CHECK(sara::test::same_bits(one.q, other.q));
  CHECK(sara::test::same_bits(one.up, other.up));
  CHECK(sara::test::same_bits(one.bias, other.bias));
  CHECK(tuner.memory().columns == 4 * 2 * tuner.learning());
}

TEST_CASE_TEMPLATE("a rule's kernel may be a lambda, or for one number at a time", Rule, descent, one_by_one) {
  std::vector<float> weight(40, 0.5e-3F);
  std::vector<std::pair<std::string, std::vector<float>&>> const weights{{"weight", weight}};
  sara::fine_tuner tuner{sara::host{1}, weights, Rule{}, harmonic{.rate = 1e-4}};
  tuner["weight"].accumulate(std::vector<float>(40, 2.0F));
  tuner.step();
  CHECK(weight[0] == doctest::Approx(0.3e-3));
}

TEST_CASE("a rule may differ from tensor to tensor, by name") {
  std::vector<float> weight(4, 0.5e-3F), bias(4, 0.5e-3F);
  std::vector<std::pair<std::string, std::vector<float>&>> const weights{{"weight", weight}, {"bias", bias}};
  sara::fine_tuner tuner{sara::host{1}, weights, careful{}, harmonic{.rate = 1e-4}};
  std::vector<float> const up(4, 1.0F);
  for (auto const* name : {"weight", "bias"}) tuner[name].accumulate(up);
  tuner.step();
  CHECK(weight[0] == doctest::Approx(0.4e-3));
  CHECK(bias[0] == doctest::Approx(0.49e-3));
}
