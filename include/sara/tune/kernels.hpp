// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>
#include <sara/update/concept.hpp>

namespace sara::detail {

/// One pass over a tensor's slots: clip, move, write to the weight, forget the gradient.
/// Values are computed from the weight itself, or from a master copy where the weight's dtype is narrower than R.
template <class T, Real R, class Kernel>
struct update_entry {
  entries<T> weights;
  R* master;  // null where T is R
  R* gradient;
  R* moments;
  std::int64_t moment_stride;
  double const* clip;  // null: no clipping
  Kernel move;

  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    R g = gradient[slot];
    if (clip) g *= static_cast<R>(*clip);
    gradient[slot] = 0;
    moments_of_entry<R> const state{moments + slot, moment_stride};
    if constexpr (std::is_same_v<T, R>) {
      move(weights[position], g, state);
    } else {
      move(master[slot], g, state);
      weights[position] = narrow<T>(master[slot]);
    }
  }
};

/// 1 where |w| ≥ θ.
template <class T>
struct at_or_above {
  entries<T> weights;
  double threshold;
  [[nodiscard]] SARA_HOST_DEVICE double operator()(std::int64_t, std::int64_t position) const {
    auto const w = static_cast<double>(widen(weights[position]));
    return (w < 0 ? -w : w) >= threshold ? 1.0 : 0.0;
  }
};

/// A reselection's predicate as a score: 0 for what stays, 1 for what does not.
template <class Keep>
struct keep_score {
  Keep keep;
  template <Real R>
  [[nodiscard]] SARA_HOST_DEVICE double operator()(R w, std::int64_t) const {
    return keep(w) ? 0.0 : 1.0;
  }
};

/// to[j] = from[slots[j]].
template <Real R>
struct take_values {
  R const* from;
  std::int64_t const* slots;
  R* to;
  SARA_HOST_DEVICE void operator()(std::int64_t j, std::int64_t) const { to[j] = from[slots[j]]; }
};

}  // namespace sara::detail
