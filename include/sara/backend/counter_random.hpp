// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include <sara/host_device.hpp>

namespace sara {

/// A bijection of 64 bits in which every input bit changes every output bit (the finaliser of SplitMix64).
[[nodiscard]] SARA_HOST_DEVICE constexpr std::uint64_t mix_bits(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Random bits of a counter: a pure function, so the same on every backend and for any number of threads.
/// @param stream  keeps uses apart, for instance stream_of(name)
[[nodiscard]] SARA_HOST_DEVICE constexpr std::uint64_t counter_bits(std::uint64_t seed, std::uint64_t stream,
                                                                    std::uint64_t counter) {
  return mix_bits(mix_bits(mix_bits(seed) ^ stream) + counter);
}

/// A stream number for a name (FNV-1a).
[[nodiscard]] constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (char const c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace sara
