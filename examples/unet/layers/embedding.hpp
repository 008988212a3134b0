// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "condition.hpp"
#include "linear.hpp"
#include "silu.hpp"

namespace unet {

/// The conditioning of the network: time, class and caption become one vector a picture,
///   e = time2(silu(time1(waves(t)))) + class[label] + mean(word[tokens]).
/// Every block reads silu(e).
template <class Real>
class embedding {
 public:
  /// @param classes  the class for "any" included
  embedding(std::int64_t width, std::int64_t classes, std::int64_t words)
      : width_{width},
        time1_{"time.linear1", width, width},
        time2_{"time.linear2", width, width},
        class_{"class.weight", {classes, width}, {0, 0.5}},
        word_{"word.weight", {words, width}, {0, 1}} {}

  /// @param times       [batch], in [0, 1]
  /// @param conditions  [batch]; their tokens must live until the backward pass
  /// @return  silu(e), [batch, width]
  matrix_view<Real const> forward(context<Real> const& run, std::span<Real const> times,
                                  std::span<condition const> conditions) {
    require_conditions(times.size(), conditions, class_.shape[0], word_.shape[0]);
    conditions_.assign(conditions.begin(), conditions.end());
    auto const batch = rows();
    for (auto* matrix : {&waves_, &hidden_, &active_, &sum_, &out_, &gradient_})
      matrix->resize(static_cast<std::size_t>(batch * width_));
    write_waves<Real>(times, waves_);
    time1_.forward(run, view(waves_), view(hidden_));
    std::transform(hidden_.begin(), hidden_.end(), active_.begin(), silu<Real>);
    time2_.forward(run, view(active_), view(sum_));
    for (std::int64_t n = 0; n < batch; ++n) {
      auto const& [label, tokens] = conditions_[static_cast<std::size_t>(n)];
      add(row(sum_, n), class_.values.data() + label * width_, Real{1});
      for (int const token : tokens)
        add(row(sum_, n), word_.values.data() + token * width_, 1 / static_cast<Real>(tokens.size()));
    }
    std::transform(sum_.begin(), sum_.end(), out_.begin(), silu<Real>);
    return view(out_);
  }

  /// The gradient of silu(e), zero at first, for the blocks to add to.
  matrix_view<Real> gradient(context<Real> const&) {
    std::fill(gradient_.begin(), gradient_.end(), Real{0});
    return view(gradient_);
  }

  /// Takes what has been added to `gradient()` to the parameters.
  template <gradient_sink<Real> Sink>
  void backward(context<Real> const& run, Sink& sink) {
    for (std::size_t i = 0; i < gradient_.size(); ++i) gradient_[i] *= silu_slope(sum_[i]);
    table_gradient(class_, class_gradient_, sink, [](condition const& c) { return std::span{&c.label, 1}; });
    table_gradient(word_, word_gradient_, sink, [](condition const& c) { return c.tokens; });
    time2_.backward_weight(run, view(gradient_), view(active_), sink);
    time2_.backward_input(run, view(gradient_), view(out_));
    for (std::size_t i = 0; i < out_.size(); ++i) out_[i] *= silu_slope(hidden_[i]);
    time1_.backward_weight(run, view(out_), view(waves_), sink);
  }

  template <class F>
  void each_parameter(F&& f) {
    time1_.each_parameter(f);
    time2_.each_parameter(f);
    f(class_);
    f(word_);
  }

 private:
  [[nodiscard]] std::int64_t rows() const { return static_cast<std::int64_t>(conditions_.size()); }
  [[nodiscard]] matrix_view<Real> view(std::vector<Real>& values) const { return {values.data(), rows(), width_}; }
  [[nodiscard]] Real* row(std::vector<Real>& values, std::int64_t n) const { return values.data() + n * width_; }
  void add(Real* to, Real const* from, Real factor) const {
    for (std::int64_t i = 0; i < width_; ++i) to[i] += factor * from[i];
  }

  template <class Sink, class Entries>
  void table_gradient(parameter<Real> const& table, std::vector<Real>& result, Sink& sink, Entries&& entries) {
    if (!sink.wants(table)) return;
    result.assign(table.values.size(), Real{0});
    for (std::int64_t n = 0; n < rows(); ++n) {
      auto const list = entries(conditions_[static_cast<std::size_t>(n)]);
      for (int const entry : list)
        add(result.data() + entry * width_, row(gradient_, n), 1 / static_cast<Real>(list.size()));
    }
    sink.dense(table, std::span<Real const>{result});
  }

  std::int64_t width_;
  linear<Real> time1_;
  linear<Real> time2_;
  parameter<Real> class_;
  parameter<Real> word_;
  std::vector<condition> conditions_;
  std::vector<Real> waves_;  // each of these: [batch, width]
  std::vector<Real> hidden_;
  std::vector<Real> active_;
  std::vector<Real> sum_;
  std::vector<Real> out_;
  std::vector<Real> gradient_;
  std::vector<Real> class_gradient_;
  std::vector<Real> word_gradient_;
};

}  // namespace unet
