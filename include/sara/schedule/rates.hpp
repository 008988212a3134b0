// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>

#include <sara/error.hpp>
#include <sara/schedule/concept.hpp>

namespace sara {

namespace detail {

/// (step + 1) / warmup while warming up.
[[nodiscard]] inline std::optional<double> warming(std::int64_t step, std::int64_t warmup) {
  require<value_error>(warmup >= 0, "learning-rate schedule: expected a warm-up of at least 0 steps, got ", warmup);
  if (step >= warmup) return {};
  return static_cast<double>(step + 1) / static_cast<double>(warmup);
}

/// How far the steps after the warm-up have come, from 0 to 1.
[[nodiscard]] inline double progress(std::int64_t step, std::int64_t warmup, std::int64_t steps, double floor) {
  require<value_error>(floor >= 0 && floor <= 1, "learning-rate schedule: expected a floor from 0 to 1, got ", floor);
  require<value_error>(steps > warmup && warmup >= 0, "learning-rate schedule: expected more steps than the ", warmup,
                       " of warm-up, got ", steps);
  return std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(steps - warmup));
}

}  // namespace detail

/// The same rate throughout, after a linear warm-up from rate / warmup.
struct constant_rate {
  std::optional<double> rate = {};  ///< without it, eq. 12 of the selection's threshold
  std::int64_t warmup = 0;          ///< steps

  [[nodiscard]] double factor(std::int64_t step) const { return detail::warming(step, warmup).value_or(1.0); }
};

/// From the rate to floor · rate along half a cosine, after a linear warm-up; what the paper uses, without warm-up.
struct cosine_rate {
  std::optional<double> rate = {};
  std::int64_t steps = 5000;  ///< of the whole run, warm-up included
  std::int64_t warmup = 0;
  double floor = 0;  ///< the last factor

  [[nodiscard]] double factor(std::int64_t step) const {
    auto const done = detail::progress(std::max(step, warmup), warmup, steps, floor);
    return detail::warming(step, warmup).value_or(floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * done)));
  }
};

/// From the rate to floor · rate along a line, after a linear warm-up.
struct linear_rate {
  std::optional<double> rate = {};
  std::int64_t steps = 5000;
  std::int64_t warmup = 0;
  double floor = 0;

  [[nodiscard]] double factor(std::int64_t step) const {
    auto const done = detail::progress(std::max(step, warmup), warmup, steps, floor);
    return detail::warming(step, warmup).value_or(1 - (1 - floor) * done);
  }
};

}  // namespace sara
