// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace unet {

/// Random bits by counting: bits number `counter` of the stream `key`, the same whoever asks and in any order.
/// SplitMix64's finaliser (Steele, Lea, Flood 2014) applied to key and counter in turn.
[[nodiscard]] constexpr std::uint64_t random_bits(std::uint64_t key, std::uint64_t counter) {
  auto const mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  };
  return mix(mix(key + 0x9e3779b97f4a7c15ULL) ^ (counter * 0xd1342543de82ef95ULL + 0x9e3779b97f4a7c15ULL));
}

/// Uniform in [0, 1), 53 bits.
[[nodiscard]] constexpr double random_uniform(std::uint64_t key, std::uint64_t counter) {
  return static_cast<double>(random_bits(key, counter) >> 11) * 0x1p-53;
}

/// Fills with standard normal values of the stream `key` (Box-Muller, two values from one draw).
template <class Real>
void random_normal(std::uint64_t key, std::span<Real> values) {
  for (std::size_t i = 0; i < values.size(); i += 2) {
    auto const bits = random_bits(key, i / 2);
    auto const u = (static_cast<float>(bits >> 40) + 0.5F) * 0x1p-24F;  // never 0, so the logarithm is finite
    auto const angle = static_cast<float>((bits >> 8) & 0xffffff) * (0x1p-24F * 2 * std::numbers::pi_v<float>);
    auto const radius = std::sqrt(-2 * std::log(u));
    values[i] = static_cast<Real>(radius * std::cos(angle));
    if (i + 1 < values.size()) values[i + 1] = static_cast<Real>(radius * std::sin(angle));
  }
}

/// A permutation of 0 … n - 1 drawn from the stream `key` (Fisher-Yates).
[[nodiscard]] inline std::vector<std::size_t> random_permutation(std::uint64_t key, std::size_t n) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i)
    std::swap(order[i - 1], order[static_cast<std::size_t>(random_uniform(key, i) * static_cast<double>(i))]);
  return order;
}

}  // namespace unet
