// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>

#include <bit>
#include <cmath>
#include <cstdint>

namespace unet {

/// e^x without branches, so that loops over it become vector code; within 2 units in the last place of float.
[[nodiscard]] SARA_HOST_DEVICE inline float exponential(float x) {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  constexpr float to_integer = 12582912.0F;  // 1.5 · 2^23: adding it rounds to the nearest integer
  float const n = (x * 1.44269504F + to_integer) - to_integer;
  float const r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;  // the coefficients of Cephes' expf
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  return p * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
}
[[nodiscard]] SARA_HOST_DEVICE inline double exponential(double x) { return std::exp(x); }

/// silu(x) = x · σ(x).
template <class Real>
[[nodiscard]] SARA_HOST_DEVICE Real silu(Real x) {
  return x / (1 + exponential(-x));
}

/// silu'(x) = σ(x) · (1 + x · (1 - σ(x))).
template <class Real>
[[nodiscard]] SARA_HOST_DEVICE Real silu_slope(Real x) {
  Real const s = 1 / (1 + exponential(-x));
  return s * (1 + x * (1 - s));
}

}  // namespace unet
