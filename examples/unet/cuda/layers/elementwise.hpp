// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

#include <cstdint>
#include <type_traits>

#include "../../layers/silu.hpp"

/// Bodies of loops over rows and columns of one matrix each. Whoever launches them sees to the extents.
namespace unet::detail {

/// A number as an operand of a product: itself, or rounded to bfloat16.
template <class Operand, class Real>
[[nodiscard]] SARA_HOST_DEVICE Operand as_operand(Real value) {
  if constexpr (std::is_same_v<Operand, Real>)
    return value;
  else
    return Operand{static_cast<float>(value)};
}

/// to[i] = from[i], as an operand.
template <class Real, class Operand>
struct convert {
  Real const* from;
  Operand* to;
  std::int64_t pitch;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    auto const i = row * pitch + column;
    to[i] = as_operand<Operand>(from[i]);
  }
};

/// y[row, column] = row's bias, and what is added to it where that is not null.
template <class Real>
struct fill_rows {
  Real const* bias;
  Real* y;
  std::int64_t pitch;
  Real const* plus;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    auto const i = row * pitch + column;
    y[i] = plus ? plus[i] + bias[row] : bias[row];
  }
};

/// y[row, column] = column's bias.
template <class Real>
struct fill_columns {
  Real const* bias;
  Real* y;
  std::int64_t pitch;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    y[row * pitch + column] = bias[column];
  }
};

/// y = silu(x).
template <class Real>
struct activate {
  Real const* x;
  Real* y;
  std::int64_t pitch;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    auto const i = row * pitch + column;
    y[i] = silu(x[i]);
  }
};

/// dy *= silu'(x).
template <class Real>
struct activate_backward {
  Real const* x;
  Real* dy;
  std::int64_t pitch;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    auto const i = row * pitch + column;
    dy[i] *= silu_slope(x[i]);
  }
};

/// to = 0.
template <class Real>
struct fill_zero {
  Real* to;
  std::int64_t pitch;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const { to[row * pitch + column] = 0; }
};

/// The sum of a row, or of a column.
template <class Real>
struct entry {
  Real const* x;
  std::int64_t row_step;
  std::int64_t column_step;
  SARA_HOST_DEVICE double operator()(std::int64_t row, std::int32_t column) const {
    return static_cast<double>(x[row * row_step + column * column_step]);
  }
};
template <class Real>
struct store_sum {
  Real* to;
  SARA_HOST_DEVICE void operator()(std::int64_t row, double sum) const { to[row] = static_cast<Real>(sum); }
};

/// Exchanges the first two dimensions of [outer, inner, columns], to [inner, outer, columns]; row is outer · inner.
template <class Real>
struct exchange {
  Real const* from;
  Real* to;
  std::int64_t outer;
  std::int64_t inner;
  std::int64_t pixels;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    auto const i = row / inner, j = row % inner;
    to[(j * outer + i) * pixels + column] = from[row * pixels + column];
  }
};

}  // namespace unet::detail
