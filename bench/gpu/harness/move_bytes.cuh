// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include <sara/cuda/error.hpp>

namespace bench {

namespace detail {

inline constexpr unsigned stream_threads = 256, stream_blocks = 4096;

/// Reads `reads` 16-byte words of `from`, and writes `writes` of them to `to`.
/// @param sink  written so that no compiler leaves the reads out
static __global__ void __launch_bounds__(stream_threads)
    move_words(uint4 const* from, std::int64_t reads, uint4* to, std::int64_t writes, unsigned* sink) {
  auto const stride = static_cast<std::int64_t>(gridDim.x) * stream_threads;
  auto const first = static_cast<std::int64_t>(blockIdx.x) * stream_threads + threadIdx.x;
  unsigned seen = 0;
  auto i = first;
  for (; i + 3 * stride < reads; i += 4 * stride) {  // four loads under way
    uint4 word[4];
    for (int k = 0; k < 4; ++k) word[k] = from[i + k * stride];
    for (int k = 0; k < 4; ++k) seen ^= word[k].x ^ word[k].y ^ word[k].z ^ word[k].w;
  }
  for (; i < reads; i += stride) seen ^= from[i].x ^ from[i].y ^ from[i].z ^ from[i].w;
  for (i = first; i < writes; i += stride) to[i] = make_uint4(1, 2, 3, 4);
  if (seen == 0x9e3779b9u) *sink = seen;
}

}  // namespace detail

/// Hands `reads` bytes read and `writes` bytes written to the stream; multiples of 16, what is left over is not moved.
inline void move_bytes(cudaStream_t stream, void const* from, std::int64_t reads, void* to, std::int64_t writes,
                       unsigned* sink) {
  detail::move_words<<<detail::stream_blocks, detail::stream_threads, 0, stream>>>(
      static_cast<uint4 const*>(from), reads / 16, static_cast<uint4*>(to), writes / 16, sink);
  sara::cuda::check(cudaGetLastError(), "move_words");
}

}  // namespace bench
