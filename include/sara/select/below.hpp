// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/error.hpp>
#include <sara/select/concept.hpp>

namespace sara {

/// The paper's selection: |w| < θ, strictly, with θ rounded to the weight's dtype.  (SaRA, eq. 1)
///
/// NaN and infinite weights are never selected; both zeros are, for any θ > 0.
/// Example: tests/select/below.cpp
struct below {
  double threshold = 2e-3;  ///< θ; in the paper 2e-4 to 2e-3 for Stable Diffusion

  static constexpr bool by_magnitude = true;
  [[nodiscard]] magnitude score(const_named_tensor const&) const { return {}; }
  /// @throws value_error  for a negative θ or NaN
  [[nodiscard]] threshold_cut cut(const_named_tensor const& w) const {
    detail::require<value_error>(threshold >= 0, "below: expected a threshold of at least 0, got ", threshold);
    return {visit(w.tensor.type(), [&]<class T>() { return static_cast<double>(widen(narrow<T>(threshold))); })};
  }
};

}  // namespace sara
