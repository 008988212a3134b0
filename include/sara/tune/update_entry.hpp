// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <sara/backend/host/batches.hpp>
#include <sara/backend/host/lanes.hpp>
#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>
#include <sara/update/clip.hpp>
#include <sara/update/concept.hpp>

namespace sara::detail {

/// Statistics that an update pass collects on the way.
struct update_sums {
  double squared_norm = 0;  ///< of the gradient, before clipping
  double at_or_above = 0;   ///< entries with |w| ≥ θ after the update

  SARA_HOST_DEVICE update_sums& operator+=(update_sums const& other) {
    squared_norm += other.squared_norm;
    at_or_above += other.at_or_above;
    return *this;
  }
  [[nodiscard]] SARA_HOST_DEVICE friend update_sums operator+(update_sums a, update_sums const& b) { return a += b; }
};

/// moments_of_entry, of as many neighbouring entries as there are lanes: copies, since a column is aligned to its
/// numbers only, and Clang forgets that of a reference.
template <Real R>
struct moments_of_lanes {
  lanes<R>* first;
  [[nodiscard]] lanes<R>& operator[](int k) const { return first[k]; }
};

/// Moves a run of neighbouring values, in lanes where the rule can. The rule comes by value: of a member, what is
/// stored could be a part for all that a compiler knows, and would be read again for every vector.
template <class Kernel, Real R>
void move_run(Kernel move, moments_of_entry<R> const& moments, [[maybe_unused]] int moment_count, R factor,
              R const* gradient, R* values, std::int64_t count) {
  auto const from = [&](std::int64_t j) {
    return moments_of_entry<R>{moments.columns, moments.stride, moments.entry + j};
  };
  std::int64_t j = 0;
#ifndef __CUDACC__  // nvcc's front end knows too little of vectors
  if constexpr (requires { requires Kernel::on_lanes; }) {
    constexpr auto n = static_cast<std::int64_t>(lane_count<R>);
    lanes<R> state[max_moments] = {};
    for (; j + n <= count; j += n) {
      lanes<R> value, clipped;
      load<R>(value, values + j);
      load<R>(clipped, gradient + j);
      clipped *= factor;
      for (int k = 0; k < max_moments; ++k)
        if (k < moment_count) load<R>(state[k], &from(j)[k]);
      move(value, clipped, moments_of_lanes<R>{state});
      for (int k = 0; k < max_moments; ++k)
        if (k < moment_count) store<R>(state[k], &from(j)[k]);
      store<R>(value, values + j);
    }
  }
#endif
  for (; j < count; ++j) move(values[j], factor * gradient[j], from(j));
}

/// One pass over a tensor's slots: clip, move, write to the weight, forget the gradient, and count what it sees.
/// Values are computed from the weight itself, or from a master copy where the weight's dtype is narrower than R.
template <class T, Real R, class Kernel>
struct update_entry {
  entries<T> weights;
  R* master;  // null where T is R
  R* gradient;
  R* moments;
  std::int64_t moment_stride;
  int moment_count;
  double const* clip;  // null: no clipping
  Kernel move;
  double threshold = std::numeric_limits<double>::infinity();  // θ of at_or_above

  SARA_HOST_DEVICE update_sums operator()(std::int64_t slot, std::int64_t position) const {
    R g = gradient[slot];
    update_sums const sums{static_cast<double>(g) * static_cast<double>(g), 0};
    if (clip) g *= static_cast<R>(*clip);
    gradient[slot] = 0;
    moments_of_entry<R> const state{moments, moment_stride, slot};
    if constexpr (std::is_same_v<T, R>) {
      move(weights[position], g, state);
    } else {
      move(master[slot], g, state);
      weights[position] = narrow<T>(master[slot]);
    }
    return {sums.squared_norm, counted(widen(weights[position]))};
  }

  void prefetch(std::int64_t position) const { __builtin_prefetch(&weights[position], 1); }

  /// The same for a run of slots: weights are gathered, moved in lanes where the rule can, and scattered; neighbours
  /// stay where they are.
  update_sums operator()(std::int64_t slot, std::int64_t const* positions, std::int64_t count) const {
    std::array<R, batch_slots> gathered;
    R* values = gathered.data();
    bool in_place = false;
    if constexpr (std::is_same_v<T, R>) {
      in_place = weights.dense && positions[count - 1] - positions[0] == count - 1;
      if (in_place)
        values = weights.data + positions[0];
      else
        over_weights(positions, count, [&](T const& w, std::int64_t j) { values[j] = w; });
    } else {
      values = master + slot;
    }

    R* const g = gradient + slot;
    update_sums sums{sum_of_squares(g, count), 0};
    R const factor = clip ? static_cast<R>(*clip) : R{1};
    move_run(move, moments_of_entry<R>{moments, moment_stride, slot}, moment_count, factor, g, values, count);
    for (std::int64_t j = 0; j < count; ++j) g[j] = 0;

    [[maybe_unused]] std::array<T, batch_slots> narrowed;
    T const* moved = nullptr;
    if constexpr (std::is_same_v<T, R>) {
      moved = values;
    } else {
      for (std::int64_t j = 0; j < count; ++j) narrowed[static_cast<std::size_t>(j)] = narrow<T>(values[j]);
      moved = narrowed.data();
    }
    std::int32_t at_or_above = 0;
    for (std::int64_t j = 0; j < count; ++j) at_or_above += static_cast<double>(std::abs(widen(moved[j]))) >= threshold;
    sums.at_or_above = at_or_above;
    if (!in_place) over_weights(positions, count, [&](T& w, std::int64_t j) { w = moved[j]; });
    return sums;
  }

 private:
  /// visit(weight, j) for all positions; whether the tensor is dense is asked once.
  template <class Visit>
  void over_weights(std::int64_t const* positions, std::int64_t count, Visit&& visit) const {
    T* const data = weights.data;
    if (weights.dense)
      for (std::int64_t j = 0; j < count; ++j) visit(data[positions[j]], j);
    else
      for (std::int64_t j = 0; j < count; ++j) visit(weights[positions[j]], j);
  }

  [[nodiscard]] SARA_HOST_DEVICE double counted(widened<T> w) const {
    return static_cast<double>(std::abs(w)) >= threshold ? 1 : 0;
  }
};

}  // namespace sara::detail
