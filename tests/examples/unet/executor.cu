// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <sara/cuda.cuh>

#include <functional>

#include "examples/unet/cuda/cuda_executor.cuh"
#include "tests/examples/unet/executor_contract.hpp"

namespace {

/// Calls f with an executor, where there is a device.
void with_device(std::function<void(unet::cuda_executor const&)> const& f) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    MESSAGE("no CUDA device, so nothing was checked");
    return;
  }
  f(unet::cuda_executor{sara::cuda::device{}, false});
}

TEST_CASE("the executor on a CUDA device visits everything once") {
  with_device([](auto const& machine) { unet::test::check_launch(machine); });
}

TEST_CASE("the executor on a CUDA device sums rows") {
  with_device([](auto const& machine) { unet::test::check_reduce(machine); });
}

TEST_CASE("the executor on a CUDA device multiplies") {
  with_device([](auto const& machine) {
    unet::test::check_multiply<float>(machine);
    unet::test::check_multiply<sara::bfloat16>(machine);
  });
}

}  // namespace
