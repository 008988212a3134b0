// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>

namespace bench {

/// What a machine can do, measured by the program: the limits that times are compared with.
struct machine {
  double flops_per_second = 0;  ///< in a benchmark's dtype; fused multiply-adds count two
  double bytes_per_second = 0;  ///< read from memory
  std::string name = {};        ///< of an accelerator

  /// The host with so many threads, in float32. Takes about half a second.
  [[nodiscard]] static machine measure(int threads);
  /// Seconds that work of so many flops and bytes takes at least.
  [[nodiscard]] double least_seconds(double flops, double bytes) const {
    return std::max(flops / flops_per_second, bytes / bytes_per_second);
  }
};

}  // namespace bench
