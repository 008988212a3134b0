// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include <sara/error.hpp>
#include <sara/host_device.hpp>
#include <sara/schedule/concept.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara {

/// |value| < θ: the entries of M that are still small, and go on learning.
struct smaller_than {
  double threshold;
  template <Real R>
  [[nodiscard]] SARA_HOST_DEVICE bool operator()(R value) const {
    return static_cast<double>(std::abs(value)) < threshold;
  }
};

namespace detail {

[[nodiscard]] inline smaller_than keep_small(std::optional<double> own, std::optional<double> selected) {
  require<value_error>(own || selected,
                       "reselection: expected a threshold, since selection was not by magnitude; got none");
  require<value_error>(!own || *own > 0, "reselection: expected a threshold above 0, got ", own.value_or(0));
  return {own ? *own : *selected};
}

}  // namespace detail

/// Reselects after half of the steps, as the paper does: M ← M ∧ 1[|P| < θ].
struct reselect_halfway {
  std::int64_t steps = 5000;             ///< of the whole run
  std::optional<double> threshold = {};  ///< θ, where it shall differ from the selection's

  [[nodiscard]] bool reselects_after(std::int64_t step) const {
    detail::require<value_error>(steps >= 2, "reselect_halfway: expected at least 2 steps, got ", steps);
    return step == steps / 2;
  }
  [[nodiscard]] smaller_than keep(std::optional<double> selected) const {
    return detail::keep_small(threshold, selected);
  }
};

/// Reselects after each of the given numbers of steps.
struct reselect_at {
  std::vector<std::int64_t> steps = {};
  std::optional<double> threshold = {};

  [[nodiscard]] bool reselects_after(std::int64_t step) const {
    return std::find(steps.begin(), steps.end(), step) != steps.end();
  }
  [[nodiscard]] smaller_than keep(std::optional<double> selected) const {
    return detail::keep_small(threshold, selected);
  }
};

/// Reselects after every so many steps.
struct reselect_every {
  std::int64_t steps = 1000;
  std::optional<double> threshold = {};

  [[nodiscard]] bool reselects_after(std::int64_t step) const {
    detail::require<value_error>(steps >= 1, "reselect_every: expected at least 1 step, got ", steps);
    return step > 0 && step % steps == 0;
  }
  [[nodiscard]] smaller_than keep(std::optional<double> selected) const {
    return detail::keep_small(threshold, selected);
  }
};

/// M stays as selected, an ablation of the paper (Table 2).
struct never_reselect {
  struct keep_all {
    template <Real R>
    [[nodiscard]] SARA_HOST_DEVICE bool operator()(R) const {
      return true;
    }
  };
  [[nodiscard]] bool reselects_after(std::int64_t) const noexcept { return false; }
  [[nodiscard]] keep_all keep(std::optional<double>) const noexcept { return {}; }
};

}  // namespace sara
