// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <ostream>
#include <type_traits>

#include <sara/error.hpp>
#include <sara/host_device.hpp>

namespace sara {

/// IEEE 754 binary16, for storage; arithmetic is done in float32.
/// The layout is that of CUDA's __half, Eigen::half and c10::Half.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  /// Rounds to nearest, ties to even; overflow gives infinity.
  SARA_HOST_DEVICE explicit float16(float value) : bits{from_float(std::bit_cast<std::uint32_t>(value))} {}
  SARA_HOST_DEVICE explicit operator float() const { return std::bit_cast<float>(to_float(bits)); }
  friend bool operator==(float16, float16) = default;  // of bits: equal storage, not equal value

 private:
  SARA_HOST_DEVICE static std::uint16_t from_float(std::uint32_t x) {
    std::uint32_t const sign = (x >> 16) & 0x8000u;
    x &= 0x7fffffffu;
    if (x > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((x >> 13) & 0x1ffu));  // NaN stays NaN
    if (x >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);                        // rounds past 65504
    if (x < 0x38800000u) {  // subnormal: let float addition round at the right bit
      float const rounded = std::bit_cast<float>(x) + 0.5f;
      return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(rounded) - 0x3f000000u));
    }
    std::uint32_t const odd = (x >> 13) & 1u;
    return static_cast<std::uint16_t>(sign | ((x - 0x38000000u + 0xfffu + odd) >> 13));
  }

  SARA_HOST_DEVICE static std::uint32_t to_float(std::uint16_t h) {
    std::uint32_t const sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
    std::uint32_t const magnitude = static_cast<std::uint32_t>(h & 0x7fffu) << 13;
    if (magnitude >= 0x0f800000u) return sign | 0x70000000u | magnitude;  // infinity and NaN
    if (magnitude < 0x00800000u) {  // subnormal: a float with the same fraction, less its hidden one
      float const value = std::bit_cast<float>(magnitude | 0x38800000u) - std::bit_cast<float>(0x38800000u);
      return sign | std::bit_cast<std::uint32_t>(value);
    }
    return sign | (magnitude + 0x38000000u);
  }
};

/// The upper half of a binary32, for storage; arithmetic is done in float32.
/// The layout is that of CUDA's __nv_bfloat16, Eigen::bfloat16 and c10::BFloat16.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  /// Rounds to nearest, ties to even.
  SARA_HOST_DEVICE explicit bfloat16(float value) : bits{from_float(std::bit_cast<std::uint32_t>(value))} {}
  SARA_HOST_DEVICE explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  friend bool operator==(bfloat16, bfloat16) = default;  // of bits: equal storage, not equal value

 private:
  SARA_HOST_DEVICE static std::uint16_t from_float(std::uint32_t x) {
    if ((x & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((x >> 16) | 0x40u);  // NaN stays NaN
    return static_cast<std::uint16_t>((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
  }
};

/// Element types of the tensors that the library reads and trains.
enum class dtype : std::uint8_t { float64, float32, bfloat16, float16 };

/// Types that have a dtype: double, float, bfloat16, float16.
template <class T>
concept Scalar =
    std::same_as<T, double> || std::same_as<T, float> || std::same_as<T, bfloat16> || std::same_as<T, float16>;

/// Types that the library computes in: float32, or float64 for float64 weights.
template <class T>
concept Real = std::same_as<T, double> || std::same_as<T, float>;

template <Scalar T>
inline constexpr dtype dtype_of = std::same_as<T, double>     ? dtype::float64
                                  : std::same_as<T, float>    ? dtype::float32
                                  : std::same_as<T, bfloat16> ? dtype::bfloat16
                                                              : dtype::float16;

/// The Real that holds every value of T exactly: double for double, float for the others.
template <Scalar T>
using widened = std::conditional_t<std::same_as<T, double>, double, float>;

/// Bytes of one element.
[[nodiscard]] constexpr std::int64_t size_of(dtype type) noexcept {
  return type == dtype::float64 ? 8 : type == dtype::float32 ? 4 : 2;
}

/// "float64", "float32", "bfloat16" or "float16".
[[nodiscard]] constexpr char const* name_of(dtype type) noexcept {
  switch (type) {
    case dtype::float64:
      return "float64";
    case dtype::float32:
      return "float32";
    case dtype::bfloat16:
      return "bfloat16";
    default:
      return "float16";
  }
}

inline std::ostream& operator<<(std::ostream& out, dtype type) { return out << name_of(type); }

/// Calls f.template operator()<T>() with the type of a run-time dtype and returns its result.
template <class F>
decltype(auto) visit(dtype type, F&& f) {
  switch (type) {
    case dtype::float64:
      return f.template operator()<double>();
    case dtype::float32:
      return f.template operator()<float>();
    case dtype::bfloat16:
      return f.template operator()<bfloat16>();
    default:
      return f.template operator()<float16>();
  }
}

/// The value of x in its widened type, exactly.
template <Scalar T>
[[nodiscard]] SARA_HOST_DEVICE constexpr widened<T> widen(T x) {
  return static_cast<widened<T>>(x);
}

/// x rounded to the nearest T, ties to even; from double through float for the 16-bit types.
template <Scalar T, Real R>
[[nodiscard]] SARA_HOST_DEVICE constexpr T narrow(R x) {
  return static_cast<T>(static_cast<widened<T>>(x));
}

}  // namespace sara
