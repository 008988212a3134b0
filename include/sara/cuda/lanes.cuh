// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/host_device.hpp>

namespace sara::cuda::detail {

/// The 32 threads of a warp on one item. What is written for lanes takes any such type, and one_lane as well.
struct warp_lanes {
  static constexpr int count = 32;
  int id = 0;

  /// Σ over the lanes, in every lane; the same order every time.
  template <class T>
  [[nodiscard]] SARA_HOST_DEVICE T sum(T x) const {
#ifdef __CUDA_ARCH__
    for (int distance = count / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
#endif
    return x;
  }
  /// Bit l is what lane l says.
  [[nodiscard]] SARA_HOST_DEVICE std::uint32_t ballot([[maybe_unused]] bool yes) const {
#ifdef __CUDA_ARCH__
    return __ballot_sync(0xffffffffu, yes);
#else
    return 0;
#endif
  }
};

/// A thread that does all lanes' work, for a loop on the host.
struct one_lane {
  static constexpr int count = 1;
  int id = 0;

  template <class T>
  [[nodiscard]] SARA_HOST_DEVICE T sum(T x) const {
    return x;
  }
  [[nodiscard]] SARA_HOST_DEVICE std::uint32_t ballot(bool yes) const { return yes ? 1u : 0u; }
};

/// *to += n, where any thread may add.
SARA_HOST_DEVICE inline std::uint64_t add_atomically(std::uint64_t* to, std::uint64_t n) {
#ifdef __CUDA_ARCH__
  static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
  return atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(n));
#else
  auto const before = *to;
  *to += n;
  return before;
#endif
}

}  // namespace sara::cuda::detail
