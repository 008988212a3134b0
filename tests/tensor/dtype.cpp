// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <sara/tensor/dtype.hpp>

namespace {

using sara::bfloat16;
using sara::float16;

template <class T>
struct format;
template <>
struct format<float16> {
  using oracle = Eigen::half;
  static constexpr int fraction_bits = 10;
};
template <>
struct format<bfloat16> {
  using oracle = Eigen::bfloat16;
  static constexpr int fraction_bits = 7;
};

template <class T>
bool is_nan(T x) {
  return std::isnan(static_cast<float>(x));
}

/// Whether T rounds x to what Eigen rounds it to; NaN may keep another payload.
template <class T>
bool rounds_like_eigen(float x) {
  auto const ours = T{x};
  auto const theirs = Eigen::numext::bit_cast<std::uint16_t>(typename format<T>::oracle(x));
  return std::isnan(x) ? is_nan(ours) : ours.bits == theirs;
}

}  // namespace

TEST_CASE_TEMPLATE("every pattern of a 16-bit type comes back from float32", T, float16, bfloat16) {
  constexpr std::uint32_t quiet = 1u << (format<T>::fraction_bits - 1);
  int wrong_bits = 0;
  int wrong_values = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    T x;
    x.bits = static_cast<std::uint16_t>(bits);
    auto const value = static_cast<float>(x);
    auto const oracle = static_cast<float>(Eigen::numext::bit_cast<typename format<T>::oracle>(x.bits));
    auto const expected = std::isnan(value) ? bits | quiet : bits;  // a signalling NaN becomes the quiet one
    wrong_bits += T{value}.bits != expected;
    wrong_values +=
        std::isnan(oracle) ? !std::isnan(value) : std::signbit(oracle) != std::signbit(value) || oracle != value;
  }
  CHECK(wrong_bits == 0);
  CHECK(wrong_values == 0);
}

TEST_CASE_TEMPLATE("rounding is to nearest, ties to even, at every boundary", T, float16, bfloat16) {
  int wrong = 0;
  int boundaries = 0;
  for (std::uint32_t bits = 0; bits + 1 < 65536; ++bits) {
    T low, high;
    low.bits = static_cast<std::uint16_t>(bits);
    high.bits = static_cast<std::uint16_t>(bits + 1);
    auto const a = static_cast<float>(low);
    auto const b = static_cast<float>(high);
    if (!std::isfinite(a) || !std::isfinite(b) || std::signbit(a) != std::signbit(b)) continue;
    ++boundaries;
    auto const tie = static_cast<float>((static_cast<double>(a) + static_cast<double>(b)) / 2);
    auto const even = bits % 2 == 0 ? low : high;
    wrong += T{tie} != even;
    wrong += T{std::nextafter(tie, a)} != low;
    wrong += T{std::nextafter(tie, b)} != high;
  }
  CHECK(wrong == 0);
  CHECK(boundaries == 2 * (std::bit_cast<std::uint16_t>(T{INFINITY}) - 1));
}

TEST_CASE_TEMPLATE("rounding agrees with Eigen all over float32", T, float16, bfloat16) {
  int wrong = 0;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 8191)  // a prime: all low bits occur
    wrong += !rounds_like_eigen<T>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  using limits = std::numeric_limits<float>;
  for (auto const x : {0.0f, limits::denorm_min(), limits::min(), limits::max(), limits::infinity(),
                       limits::quiet_NaN(), 65504.0f, 65519.99f, 65520.0f, 0x1p-24f, 0x1p-25f, 0x1.000002p-25f}) {
    wrong += !rounds_like_eigen<T>(x);
    wrong += !rounds_like_eigen<T>(-x);
  }
  CHECK(wrong == 0);
}

TEST_CASE("layout and names") {
  static_assert(sizeof(float16) == 2 && alignof(float16) == 2 && std::is_trivially_copyable_v<float16>);
  static_assert(sizeof(bfloat16) == 2 && alignof(bfloat16) == 2 && std::is_trivially_copyable_v<bfloat16>);
  static_assert(sara::Scalar<double> && sara::Scalar<float> && sara::Scalar<float16> && sara::Scalar<bfloat16>);
  static_assert(!sara::Scalar<int> && !sara::Scalar<float const> && !sara::Real<float16>);
  static_assert(std::is_same_v<sara::widened<bfloat16>, float> && std::is_same_v<sara::widened<double>, double>);

  CHECK(float16{}.bits == 0);
  for (auto const type : {sara::dtype::float64, sara::dtype::float32, sara::dtype::bfloat16, sara::dtype::float16})
    sara::visit(type, [&]<class T>() {
      CHECK(sara::dtype_of<T> == type);
      CHECK(sara::size_of(type) == sizeof(T));
    });
  CHECK(sara::detail::text(sara::dtype::float64, ' ', sara::dtype::float32, ' ', sara::dtype::bfloat16, ' ',
                           sara::dtype::float16) == "float64 float32 bfloat16 float16");
}

TEST_CASE("widen is exact and narrow rounds") {
  CHECK(sara::widen(0.1) == 0.1);
  CHECK(sara::widen(float16{0.5f}) == 0.5f);
  CHECK(sara::narrow<float>(0.1) == 0.1f);
  CHECK(sara::narrow<double>(0.1f) == static_cast<double>(0.1f));
  CHECK(sara::narrow<float16>(65520.0) == float16{INFINITY});
  CHECK(sara::narrow<bfloat16>(1.0 + 0x1p-8) == bfloat16{1.0f});
}
