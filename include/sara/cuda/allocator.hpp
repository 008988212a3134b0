// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>

#include <sara/cuda/error.hpp>

namespace sara::cuda {

/// Where a device's buffers come from: stream-ordered, so that neither function waits. `allocate` throws, or returns
/// memory aligned to 256 bytes that work on the stream may use from then on; work handed to the stream before
/// `deallocate` may still use it.
///
/// The default is a memory pool of the device's own, that keeps what is freed for the next step (stream_pool). A
/// framework's caching allocator fits as well.
struct allocator {
  std::function<void*(std::size_t bytes, cudaStream_t)> allocate;
  std::function<void(void*, std::size_t bytes, cudaStream_t)> deallocate;
  std::function<void()> release_unused = {};  ///< gives back what is kept and not in use; may be empty
};

/// An allocator on a CUDA memory pool of its own on the current device, which is given back when the last buffer is.
/// @throws error
[[nodiscard]] inline allocator stream_pool() {
  int ordinal = 0;
  check(cudaGetDevice(&ordinal), "cudaGetDevice");
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, ordinal};
  cudaMemPool_t created = nullptr;
  check(cudaMemPoolCreate(&created, &properties), "cudaMemPoolCreate");
  std::shared_ptr<CUmemPoolHandle_st> const pool{created,
                                                 [](cudaMemPool_t p) { static_cast<void>(cudaMemPoolDestroy(p)); }};
  auto keep_all = std::numeric_limits<std::uint64_t>::max();
  check(cudaMemPoolSetAttribute(pool.get(), cudaMemPoolAttrReleaseThreshold, &keep_all), "cudaMemPoolSetAttribute");
  return {[pool](std::size_t bytes, cudaStream_t stream) {
            void* out = nullptr;
            check(cudaMallocFromPoolAsync(&out, bytes, pool.get(), stream), "cudaMallocFromPoolAsync");
            return out;
          },
          [pool](void* p, std::size_t, cudaStream_t stream) { static_cast<void>(cudaFreeAsync(p, stream)); },
          [pool] { check(cudaMemPoolTrimTo(pool.get(), 0), "cudaMemPoolTrimTo"); }};
}

}  // namespace sara::cuda
