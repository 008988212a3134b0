// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bench {

/// What the machine can do, measured by this program: the limits that times are compared with.
struct machine {
  double flops_per_second = 0;  ///< float32, fused multiply-adds count two
  double bytes_per_second = 0;  ///< read from memory

  /// Takes about half a second.
  [[nodiscard]] static machine measure(int threads);
  /// Seconds that work of so many flops and bytes takes at least.
  [[nodiscard]] double least_seconds(double flops, double bytes) const;
};

}  // namespace bench
