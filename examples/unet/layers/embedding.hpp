// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "linear.hpp"
#include "silu.hpp"

namespace unet {

/// What a picture is asked to show.
struct condition {
  int label = 0;                     ///< class; the last one stands for "any"
  std::span<int const> tokens = {};  ///< words of the caption; none stands for "anything"
};

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
  matrix_view<Real const> forward(std::span<Real const> times, std::span<condition const> conditions) {
    check(times, conditions);
    conditions_.assign(conditions.begin(), conditions.end());
    auto const batch = rows();
    for (auto* matrix : {&waves_, &hidden_, &active_, &sum_, &out_, &gradient_})
      matrix->resize(static_cast<std::size_t>(batch * width_));
    auto const half = width_ / 2;
    for (std::int64_t n = 0; n < batch; ++n)
      for (std::int64_t i = 0; i < half; ++i) {
        auto const frequency = std::exp(-std::log(1e4) * static_cast<double>(i) / static_cast<double>(half));
        auto const angle = 1e3 * static_cast<double>(times[static_cast<std::size_t>(n)]) * frequency;
        row(waves_, n)[i] = static_cast<Real>(std::cos(angle));
        row(waves_, n)[half + i] = static_cast<Real>(std::sin(angle));
      }
    time1_.forward(view(waves_), view(hidden_));
    std::transform(hidden_.begin(), hidden_.end(), active_.begin(), silu<Real>);
    time2_.forward(view(active_), view(sum_));
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
  matrix_view<Real> gradient() {
    std::fill(gradient_.begin(), gradient_.end(), Real{0});
    return view(gradient_);
  }

  /// Takes what has been added to `gradient()` to the parameters.
  template <gradient_sink<Real> Sink>
  void backward(Sink& sink) {
    for (std::size_t i = 0; i < gradient_.size(); ++i) gradient_[i] *= silu_slope(sum_[i]);
    table_gradient(class_, class_gradient_, sink, [](condition const& c) { return std::span{&c.label, 1}; });
    table_gradient(word_, word_gradient_, sink, [](condition const& c) { return c.tokens; });
    time2_.backward_weight(view(gradient_), view(active_), sink);
    time2_.backward_input(view(gradient_), view(out_));
    for (std::size_t i = 0; i < out_.size(); ++i) out_[i] *= silu_slope(hidden_[i]);
    time1_.backward_weight(view(out_), view(waves_), sink);
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

  void check(std::span<Real const> times, std::span<condition const> conditions) const {
    if (times.size() != conditions.size())
      throw std::invalid_argument{"embedding: expected one time for each condition, got " +
                                  std::to_string(times.size()) + " for " + std::to_string(conditions.size())};
    for (auto const& [label, tokens] : conditions) {
      if (label < 0 || label >= class_.shape[0])
        throw std::invalid_argument{"embedding: expected a class below " + std::to_string(class_.shape[0]) + ", got " +
                                    std::to_string(label)};
      for (int const token : tokens)
        if (token < 0 || token >= word_.shape[0])
          throw std::invalid_argument{"embedding: expected a word below " + std::to_string(word_.shape[0]) + ", got " +
                                      std::to_string(token)};
    }
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
