// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include <sara/host_device.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

namespace detail {
struct visit_probe {
  void operator()(std::int64_t, std::int64_t) const {}
};
}  // namespace detail

/// Ascending positions (row-major indices) in one tensor, as a trivially copyable value for loops and kernels.
/// Slot j of a compact column belongs to position(j).
///
/// - count()          number of positions
/// - shape()          the tensor as a matrix; positions are row · cols + column
/// - position(slot)   the position of a slot
/// - lower_bound(p)   the first slot whose position is at least p; count() if there is none
/// - for_each(first, last, f)   f(slot, position) for the slots of [first, last), ascending; faster than position()
///
/// All are callable on the host and, where the memory is the device's, in kernels.
template <class P>
concept Positions = std::is_trivially_copyable_v<P> && requires(P const p, std::int64_t i) {
  { p.count() } -> std::same_as<std::int64_t>;
  { p.shape() } -> std::same_as<matrix_shape>;
  { p.position(i) } -> std::same_as<std::int64_t>;
  { p.lower_bound(i) } -> std::same_as<std::int64_t>;
  p.for_each(i, i, detail::visit_probe{});
};

/// Every position of a compact column or a whole tensor: slot j is position j.
struct all_positions {
  std::int64_t n = 0;

  [[nodiscard]] SARA_HOST_DEVICE std::int64_t count() const { return n; }
  [[nodiscard]] SARA_HOST_DEVICE matrix_shape shape() const { return {n, 1}; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t position(std::int64_t slot) const { return slot; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t lower_bound(std::int64_t p) const { return p < n ? p : n; }
  template <class F>
  SARA_HOST_DEVICE void for_each(std::int64_t first, std::int64_t last, F&& f) const {
    for (std::int64_t i = first; i < last; ++i) f(i, i);
  }
};

/// Work over the positions of one tensor: f(slot, position) for each. F is trivially copyable.
template <Positions P, class F>
struct sparse_job {
  P positions;
  F f;
};

}  // namespace sara
