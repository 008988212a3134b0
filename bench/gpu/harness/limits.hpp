// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../../harness/case.hpp"
#include "../../harness/machine.hpp"

namespace bench {

/// @throws sara::cuda::error  where there is no device to measure
void require_device();

/// The device's limits in a benchmark's dtype: cuBLAS's fastest large product, and one read of a large array. Measured
/// once; printed when they are.
[[nodiscard]] machine device_limits(benchmark const& b);

}  // namespace bench
