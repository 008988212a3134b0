// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>

#include <sara/error.hpp>

namespace sara {

/// When M is reselected, and what stays.  (SaRA, section 4.3)
///
///     scheduler.reselects_after(step)    // whether after this many steps have been done
///     scheduler.keep(threshold)          // a trivially copyable predicate keep(value) -> bool on current weights;
///                                        // the selection's threshold is given where it was by magnitude
template <class S>
concept ProgressiveScheduler = std::copyable<S> && requires(S const s, std::int64_t step, std::optional<double> theta) {
  { s.reselects_after(step) } -> std::convertible_to<bool>;
  { s.keep(theta)(1.0f) } -> std::convertible_to<bool>;
  { s.keep(theta)(1.0) } -> std::convertible_to<bool>;
};

/// How the learning rate runs.
///
///     schedule.rate                  // std::optional<double>: the highest rate; without it, eq. 12 of the threshold
///     schedule.factor(step)          // what to multiply it by in this step, counted from 0
template <class S>
concept RateSchedule = std::copyable<S> && requires(S const s, std::int64_t step) {
  { s.rate } -> std::convertible_to<std::optional<double>>;
  { s.factor(step) } -> std::convertible_to<double>;
};

/// The paper's learning rate for a threshold: 1e-3 · exp(-350 θ).  (SaRA, eq. 12)
[[nodiscard]] inline double rate_for_threshold(double threshold) { return 1e-3 * std::exp(-350 * threshold); }

namespace detail {

/// rate_for_threshold of the largest `threshold` among tensors; nothing where none has one.
/// @throws value_error  for a threshold so far beyond those of the paper that nothing would learn
template <class Tensors>
[[nodiscard]] std::optional<double> rate_for_thresholds(Tensors const& tensors) {
  std::optional<double> largest;
  for (auto const& tensor : tensors) largest = std::max(largest, tensor.threshold);
  if (!largest) return {};
  auto const rate = rate_for_threshold(*largest);
  require<value_error>(rate >= 1e-7, "fine-tuning: expected a learning rate, since eq. 12 gives ", rate,
                       " for the threshold ", *largest, "; got none");
  return rate;
}

}  // namespace detail

}  // namespace sara
