// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

namespace sara {

/// What a step did. The sums are read from the backend's memory when asked for, which waits for the backend; once the
/// next step has begun they are gone, and asking is a value_error. It must not outlive the tuner, nor its being moved.
template <class Tuner>
class step_report {
 public:
  std::int64_t step = 0;      ///< steps done, this one included
  double rate = 0;            ///< learning rate of this step
  bool reselected = false;    ///< M was reselected after this step
  std::int64_t learning = 0;  ///< entries that learn from now on

  step_report(Tuner const& tuner, std::int64_t steps, double step_rate, bool has_reselected, std::int64_t entries)
      : step{steps}, rate{step_rate}, reselected{has_reselected}, learning{entries}, tuner_{&tuner} {}

  /// λ Σ ‖P ⊙ M‖_* over the matrices that were regularised, before the step.
  [[nodiscard]] double regularizer_loss() const { return tuner_->sums_of(step).regularizer_loss; }
  /// Norm of the compact gradient, the regularizer's included, before clipping.
  [[nodiscard]] double gradient_norm() const { return std::sqrt(tuner_->sums_of(step).update.squared_norm); }
  /// How many of M (before this step's reselection) were at or above θ after the step; tensors that were not selected
  /// by magnitude have no θ and count as none.
  [[nodiscard]] std::int64_t at_or_above() const {
    return static_cast<std::int64_t>(tuner_->sums_of(step).update.at_or_above);
  }

 private:
  Tuner const* tuner_;
};

}  // namespace sara
