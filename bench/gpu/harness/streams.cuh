// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "station.cuh"

/// What memory allows: contenders that move bytes and compute next to nothing.
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

/// Four columns read and three written: 28 bytes an entry.
static __global__ void __launch_bounds__(stream_threads)
    move_columns(float4* p, float4* m, float4* v, float4 const* g, std::int64_t quads) {
  auto const i = static_cast<std::int64_t>(blockIdx.x) * stream_threads + threadIdx.x;
  if (i >= quads) return;
  auto const gradient = g[i];
  auto first = m[i], second = v[i], value = p[i];
  first = {first.x + gradient.x, first.y + gradient.y, first.z + gradient.z, first.w + gradient.w};
  second = {second.x - gradient.x, second.y - gradient.y, second.z - gradient.z, second.w - gradient.w};
  value = {value.x - first.x, value.y - first.y, value.z - first.z, value.w - first.w};
  m[i] = first;
  v[i] = second;
  p[i] = value;
}

}  // namespace detail

/// Hands `reads` bytes read and `writes` bytes written to the stream; multiples of 16, what is left over is not moved.
inline void move_bytes(cudaStream_t stream, void const* from, std::int64_t reads, void* to, std::int64_t writes,
                       unsigned* sink) {
  detail::move_words<<<detail::stream_blocks, detail::stream_threads, 0, stream>>>(
      static_cast<uint4 const*>(from), reads / 16, static_cast<uint4*>(to), writes / 16, sink);
  sara::cuda::check(cudaGetLastError(), "move_words");
}

/// Every byte of `from` read once, and `writes` bytes written. The data must outlive the contender.
[[nodiscard]] inline contender one_read(station& at, std::string name, void const* from, std::int64_t reads,
                                        std::int64_t writes = 0) {
  auto const to = std::make_shared<sara::cuda::buffer<std::byte>>(at.gpu().allocate<std::byte>(writes + 16));
  auto const sink = std::make_shared<sara::cuda::buffer<unsigned>>(at.gpu().allocate<unsigned>(1));
  return on_device(at, std::move(name), 0,
                   [=, stream = at.stream()] { move_bytes(stream, from, reads, to->data(), writes, sink->data()); });
}

/// What memory allows for an optimizer: columns read and written once in one pass.
[[nodiscard]] inline contender four_streams(station& at, std::int64_t count) {
  auto const quads = count / 4;
  auto const columns = std::make_shared<sara::cuda::buffer<float4>>(at.gpu().allocate<float4>(4 * quads));
  return on_device(at, "streaming 28 B an entry", 0, [=, stream = at.stream()] {
    auto* const p = columns->data();
    auto const blocks = static_cast<unsigned>((quads + detail::stream_threads - 1) / detail::stream_threads);
    detail::move_columns<<<blocks, detail::stream_threads, 0, stream>>>(p, p + quads, p + 2 * quads, p + 3 * quads,
                                                                        quads);
    sara::cuda::check(cudaGetLastError(), "move_columns");
  });
}

}  // namespace bench
