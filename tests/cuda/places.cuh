// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include <sara/cuda/device.cuh>

#include "loop_executor.cuh"

namespace sara::test {

/// The algorithms of sara/cuda over loops on the host: all products by dots, then all by panels.
struct on_loops {
  using backend = loop_device;
  static std::vector<backend> all() { return {backend{loop_executor{2.0}}, backend{loop_executor{0.0}}}; }
};

[[nodiscard]] inline int cuda_devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
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
