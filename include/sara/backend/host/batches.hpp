// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include <sara/backend/positions.hpp>

namespace sara::detail {

/// Slots of one batch: their positions and values stay in the first-level cache.
inline constexpr std::int64_t batch_slots = 256;

/// A function object that says which memory it will want for a position: f.prefetch(position).
template <class F>
concept Prefetching = requires(F const f, std::int64_t position) {
  f.prefetch(position);
};

/// A function object over runs of at most batch_slots slots: f(slot, positions, count) does what f(slot + j,
/// positions[j]) does for all j, and returns the sum of what these return.
template <class F>
concept OverBatches = requires(F const f, std::int64_t i, std::int64_t const* positions) {
  f(i, positions, i);
};

/// visit(slot, positions, count) for the slots [first, last) in batches, ascending. The positions of a batch are listed
/// while the one before is still to be visited, so that what f will want is on its way from memory: where positions
/// jump, no hardware foresees where to.
template <Positions P, class F, class Visit>
void in_batches(P positions, std::int64_t first, std::int64_t last, F const& f, Visit&& visit) {
  std::array<std::int64_t, batch_slots> listed[2];
  auto const list = [&](std::int64_t from, std::array<std::int64_t, batch_slots>& to) {
    auto* const at = to.data();
    auto const count = std::min(batch_slots, last - from);
    positions.for_each(from, from + count,
                       [&](std::int64_t slot, std::int64_t position) { at[slot - from] = position; });
    if constexpr (Prefetching<F>)
      if (at[count - 1] - at[0] >= count)
        for (std::int64_t j = 0; j < count; ++j) f.prefetch(at[j]);
  };
  if (first < last) list(first, listed[0]);
  for (int turn = 0; first < last; turn ^= 1, first += batch_slots) {
    if (first + batch_slots < last) list(first + batch_slots, listed[turn ^ 1]);
    visit(first, listed[turn].data(), std::min(batch_slots, last - first));
  }
}

/// f for every slot of [first, last), one by one or in batches, as f can; returns nothing.
template <Positions P, class F>
void visit_slots(P positions, std::int64_t first, std::int64_t last, F const& f) {
  if constexpr (OverBatches<F>)
    in_batches(positions, first, last, f, f);
  else if constexpr (Prefetching<F>)
    in_batches(positions, first, last, f, [&](std::int64_t slot, std::int64_t const* at, std::int64_t count) {
      for (std::int64_t j = 0; j < count; ++j) f(slot + j, at[j]);
    });
  else
    positions.for_each(first, last, f);
}

/// Σ f, in ascending order of the slots.
template <class Sum, Positions P, class F>
[[nodiscard]] Sum sum_of_slots(P positions, std::int64_t first, std::int64_t last, F const& f) {
  Sum sum{};
  if constexpr (OverBatches<F>)
    in_batches(positions, first, last, f,
               [&](std::int64_t slot, std::int64_t const* at, std::int64_t count) { sum += f(slot, at, count); });
  else if constexpr (Prefetching<F>)
    in_batches(positions, first, last, f, [&](std::int64_t slot, std::int64_t const* at, std::int64_t count) {
      for (std::int64_t j = 0; j < count; ++j) sum += f(slot + j, at[j]);
    });
  else
    positions.for_each(first, last, [&](std::int64_t slot, std::int64_t position) { sum += f(slot, position); });
  return sum;
}

}  // namespace sara::detail
