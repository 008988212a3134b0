// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <utility>

#include <sara/select/concept.hpp>

namespace sara {

/// The entries for which a callable says yes: f(weight, position) → bool, the weight widened to float or double.
/// On a CUDA device f must be callable there.
///
///     sara::where{[](auto w, std::int64_t) { return w > 0 && w < 1e-3; }}
template <class F>
struct where {
  F f;

  explicit where(F function) : f{std::move(function)} {
    static_assert(
        std::predicate<F const&, float, std::int64_t> && std::predicate<F const&, double, std::int64_t>,
        "sara::where expects a callable (weight, std::int64_t position) -> bool for float and double weights");
  }

  struct score_type {
    F f;
    template <Real R>
    [[nodiscard]] SARA_HOST_DEVICE double operator()(R w, std::int64_t position) const {
      return f(w, position) ? 0.0 : 1.0;
    }
  };
  [[nodiscard]] score_type score(const_named_tensor const&) const { return {f}; }
  [[nodiscard]] threshold_cut cut(const_named_tensor const&) const { return {0.5}; }
};

}  // namespace sara
