// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "move_bytes.cuh"
#include "station.cuh"

/// What memory allows: contenders that move bytes and compute next to nothing.
namespace bench {

namespace detail {

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
