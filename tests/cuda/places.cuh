// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <vector>

#include <sara/cuda/device.cuh>

#include "loop_executor.cuh"

namespace sara::test {

/// The algorithms of sara/cuda over loops on the host: all products by dots, then all by panels.
struct on_loops {
  using backend = loop_device;
  static std::vector<backend> all() { return {backend{loop_executor{2.0}}, backend{loop_executor{0.0}}}; }
};

/// How many CUDA devices there are. Where the variable SARA_EXPECT_CUDA is set, none is an error.
[[nodiscard]] inline int cuda_devices() {
  int count = 0;
  auto const status = cudaGetDeviceCount(&count);
  if (std::getenv("SARA_EXPECT_CUDA") == nullptr) return status == cudaSuccess ? count : 0;
  cuda::check(status, "cudaGetDeviceCount");
  sara::detail::require<cuda::error>(count > 0, "SARA_EXPECT_CUDA: expected a CUDA device, got none");
  return count;
}

/// The first CUDA device; none where there is none, and then its cases pass without a check.
struct on_device {
  using backend = cuda::device;
  static std::vector<backend> all() {
    if (cuda_devices() == 0) return {};
    return {cuda::device{}};
  }
};

}  // namespace sara::test
