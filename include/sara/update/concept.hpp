// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara {

/// Most columns of state that an update rule may ask for.
inline constexpr int max_moments = 4;

/// The state of one entry: moment k of it, in columns [moments][entries].
template <class R>
struct moments_of_entry {
  R* columns;           // null for rules without moments
  std::int64_t stride;  // from column to column
  std::int64_t entry = 0;
  [[nodiscard]] SARA_HOST_DEVICE R& operator[](int k) const { return columns[k * stride + entry]; }
};

/// What a rule knows of the step.
struct update_step {
  std::int64_t t = 1;            ///< steps since the moments started at zero, this one included
  double rate = 0;               ///< learning rate
  std::string_view tensor = {};  ///< its name, for rules that differ from tensor to tensor
};

/// How compact values move.
///
///     rule.moments()                     // columns of state an entry needs, 0 to max_moments; all start at zero
///     rule.template kernel<R>(step)      // a trivially copyable function object, callable where the backend computes:
///     kernel(value, gradient, moments)   // R& value, R gradient, moments_of_entry<R>: moves one value
///
/// Adaptive or not, a rule sees one entry at a time: that is what lets one pass do everything. A kernel with
/// `static constexpr bool on_lanes = true` says that its text also serves several entries at a time, elementwise:
/// V& value, V const& gradient and moments of V, where V is R or a vector of R; see take_square_root for what operators
/// do not give.
template <class U>
concept UpdateRule = std::copyable<U> && requires(U const u, update_step step, float& value) {
  { u.moments() } -> std::convertible_to<int>;
  requires std::is_trivially_copyable_v<decltype(u.template kernel<float>(step))>;
  u.template kernel<float>(step)(value, 0.0f, moments_of_entry<float>{});
};

}  // namespace sara
