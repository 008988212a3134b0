// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The whole library on a CUDA device. Needs nvcc with --expt-relaxed-constexpr (the CMake target sara::cuda sets it).
///
///     sara::cuda::device const gpu{stream};
///     sara::fine_tuner tuner{gpu, named_device_weights(model), sara::below{.threshold = 2e-3}};

#include <sara/cuda/allocator.hpp>
#include <sara/cuda/buffer.hpp>
#include <sara/cuda/device.cuh>
#include <sara/cuda/error.hpp>
#include <sara/cuda/tensor.cuh>
#include <sara/sara.hpp>
