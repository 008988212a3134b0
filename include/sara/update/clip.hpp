// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <sara/backend/concept.hpp>

namespace sara {

namespace detail {

/// Σ x² in eight fixed partial sums, so that the compiler may use lanes.
template <Real R>
[[nodiscard]] double sum_of_squares(R const* x, std::int64_t count) {
  std::array<double, 8> parts{};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (std::size_t l = 0; l < 8; ++l) {
      auto const value = static_cast<double>(x[i + static_cast<std::int64_t>(l)]);
      parts[l] += value * value;
    }
  for (; i < count; ++i) parts[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (auto const part : parts) sum += part;
  return sum;
}

/// Of all_positions.
template <Real R>
struct square_of {
  R const* column;
  [[nodiscard]] SARA_HOST_DEVICE double operator()(std::int64_t i, std::int64_t) const {
    return static_cast<double>(column[i]) * static_cast<double>(column[i]);
  }
  [[nodiscard]] double operator()(std::int64_t i, std::int64_t const*, std::int64_t count) const {
    return sum_of_squares(column + i, count);
  }
};

struct clip_factor {
  double const* squared_norm;
  double max_norm;
  double* factor;
  SARA_HOST_DEVICE void operator()(std::int64_t, std::int64_t) const {
    auto const norm = std::sqrt(*squared_norm);
    *factor = norm > max_norm ? max_norm / norm : norm == norm ? 1.0 : norm;  // a NaN norm stays visible
  }
};

}  // namespace detail

/// Clips the compact gradient, the gradient of everything that learns, to a norm: an argument of fine_tuner.
struct clip_norm {
  double max = 1;
};

/// *squared += Σ column², summed in double.
/// @param column   [count], in the backend's memory
/// @param squared  one double, in the backend's memory
/// Does not synchronise.
template <TensorBackend Backend, Real R>
void squared_norm(Backend const& backend, R const* column, std::int64_t count, double* squared) {
  reduce(backend, all_positions{count}, detail::square_of<R>{column}, squared);
}

/// *factor = min(1, max_norm / √squared): what to multiply a compact gradient by so that its norm, the norm of
/// everything that learns, is at most max_norm. Does not synchronise.
template <TensorBackend Backend>
void clip_factor(Backend const& backend, double const* squared_norm, double max_norm, double* factor) {
  for_each(backend, all_positions{1}, detail::clip_factor{squared_norm, max_norm, factor});
}

}  // namespace sara
