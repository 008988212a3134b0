// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/counter_random.hpp>
#include <sara/tensor/dtype.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

/// The number of a stream at i, uniform in [-1, 1); the same on every machine.
template <class T>
[[nodiscard]] SARA_HOST_DEVICE T uniform_at(std::uint64_t stream, std::uint64_t i) {
  auto const bits = static_cast<std::int64_t>(sara::counter_bits(1, stream, i) >> 40);  // 24 of them: exact in float
  return sara::narrow<T>(static_cast<float>(bits) * 0x1p-23F - 1.0F);
}

/// n numbers uniform in [-1, 1); a name stands for one and the same sequence.
template <class T = float>
[[nodiscard]] std::vector<T> uniform(std::string_view name, std::int64_t n) {
  auto const stream = sara::stream_of(name);
  std::vector<T> out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = uniform_at<T>(stream, i);
  return out;
}

/// Ascending positions of a random selection: each entry with the probability `density`.
[[nodiscard]] inline std::vector<std::int64_t> random_positions(std::string_view name, std::int64_t size,
                                                                double density) {
  auto const stream = sara::stream_of(name);
  auto const bound = static_cast<std::uint64_t>(std::ldexp(density, 53));
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(static_cast<double>(size) * density * 1.1) + 16);
  for (std::int64_t p = 0; p < size; ++p)
    if (sara::counter_bits(2, stream, static_cast<std::uint64_t>(p)) >> 11 < bound) out.push_back(p);
  return out;
}

/// The densities of the table: θ = 2e-4, 8e-4, 2e-3 of the paper, and the share that the example learns.
inline constexpr double densities[] = {0.006, 0.023, 0.058, 0.2};

/// max |a - b| / max |a|; NaN if one is in either.
template <class A, class B>
[[nodiscard]] double relative_difference(A const& a, B const& b) {
  if (a.size() != b.size()) return std::nan("");
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto const x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    if (std::isnan(x) || std::isnan(y)) return std::nan("");
    difference = std::max(difference, std::abs(x - y));
    largest = std::max(largest, std::abs(x));
  }
  return largest > 0 ? difference / largest : difference;
}

[[nodiscard]] inline std::string by(std::int64_t rows, std::int64_t cols) {
  return std::to_string(rows) + "x" + std::to_string(cols);
}

}  // namespace bench
