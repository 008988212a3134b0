// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cub/block/block_reduce.cuh>

#include <sara/cuda/job_table.cuh>
#include <sara/cuda/lanes.cuh>
#include <sara/tensor/dtype.hpp>

/// Every kernel of the library but those of CUB, cuBLAS and cuSOLVER. What is computed stands in function objects,
/// which a loop on the host runs as well; here is only how threads share it out.
namespace sara::cuda::detail {

inline constexpr int block_threads = 256;

/// f(i) for i < n, a thread each.
template <class F>
static __global__ void __launch_bounds__(block_threads) call_each(std::int64_t n, F const f) {
  auto const i = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < n) f(i);
}

/// f(i, lanes) for i < n, a warp each.
template <class F>
static __global__ void __launch_bounds__(block_threads) call_each_by_warp(std::int64_t n, F const f) {
  auto const thread = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  auto const i = thread / warp_lanes::count;
  if (i < n) f(i, warp_lanes{static_cast<int>(threadIdx.x) % warp_lanes::count});
}

/// f(slot, position) for all slots of all jobs of a table.
template <class Table>
static __global__ void __launch_bounds__(block_threads) visit_jobs(__grid_constant__ Table const table) {
  auto const number = table.job_of_block(blockIdx.x);
  auto const& job = table.job(number);
  auto const first = (blockIdx.x - table.first_block[number]) * slots_per_block;
  auto const last = min(job.positions.count(), first + slots_per_block);
  for (auto slot = first + threadIdx.x; slot < last; slot += block_threads) job.f(slot, job.positions.position(slot));
}

struct plus {
  template <class T>
  SARA_HOST_DEVICE T operator()(T const& a, T const& b) const {
    return a + b;
  }
};

/// parts[block] = Σ f(slot, position) over the block's slots.
template <class Sum, class Table>
static __global__ void __launch_bounds__(block_threads) sum_jobs(__grid_constant__ Table const table, Sum* parts) {
  using reduction = cub::BlockReduce<Sum, block_threads>;
  __shared__ typename reduction::TempStorage storage;
  auto const number = table.job_of_block(blockIdx.x);
  auto const& job = table.job(number);
  auto const first = (blockIdx.x - table.first_block[number]) * slots_per_block;
  auto const last = min(job.positions.count(), first + slots_per_block);
  Sum own{};
  for (auto slot = first + threadIdx.x; slot < last; slot += block_threads)
    own += job.f(slot, job.positions.position(slot));
  Sum const total = reduction(storage).Reduce(own, plus{});
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

/// *sum += Σ parts, by one block.
template <class Sum>
static __global__ void __launch_bounds__(block_threads) add_parts(Sum const* parts, std::int64_t count, Sum* sum) {
  using reduction = cub::BlockReduce<Sum, block_threads>;
  __shared__ typename reduction::TempStorage storage;
  Sum own{};
  for (std::int64_t i = threadIdx.x; i < count; i += block_threads) own += parts[i];
  Sum const total = reduction(storage).Reduce(own, plus{});
  if (threadIdx.x == 0) *sum += total;
}

inline constexpr int most_bins = 4096;

/// bins[f(i)] += 1 for i < n where f(i) is below most_bins; counted in shared memory first. Some bins are found before
/// the first is counted, so that as many loads are under way.
template <class F>
static __global__ void __launch_bounds__(block_threads) count_bins(std::int64_t n, F const f, std::uint64_t* bins) {
  __shared__ std::uint32_t counts[most_bins];
  for (int bin = threadIdx.x; bin < most_bins; bin += block_threads) counts[bin] = 0;
  __syncthreads();
  constexpr int together = 4;
  auto const stride = static_cast<std::int64_t>(gridDim.x) * block_threads;
  for (auto first = static_cast<std::int64_t>(blockIdx.x) * block_threads + threadIdx.x; first < n;
       first += together * stride) {
    std::uint32_t found[together];
    for (int k = 0; k < together; ++k) found[k] = first + k * stride < n ? f(first + k * stride) : most_bins;
    for (auto const bin : found)
      if (bin < most_bins) atomicAdd(&counts[bin], 1u);
  }
  __syncthreads();
  for (int bin = threadIdx.x; bin < most_bins; bin += block_threads)
    if (counts[bin] > 0) add_atomically(bins + bin, counts[bin]);
}

inline constexpr int tile_side = 32;
inline constexpr int tile_rows = 8;

/// Elements in another dtype.
template <Scalar From, Scalar T>
struct converted_elements {
  From const* from;
  [[nodiscard]] SARA_HOST_DEVICE T operator[](std::int64_t i) const { return narrow<T>(widen(from[i])); }
};

/// to[c · pitch + r] = from[r · row_stride + c], a tile of 32 by 32 a block, by way of shared memory, so that both
/// sides are read and written in whole lines.
/// @tparam T  a number: types with a constructor cannot be shared
template <class Elements, class T>
static __global__ void __launch_bounds__(tile_side* tile_rows)
    transpose_tiles(Elements from, std::int64_t row_stride, std::int64_t rows, std::int64_t cols, T* to,
                    std::int64_t pitch) {
  __shared__ T tile[tile_side][tile_side + 1];
  auto const tiles_across = (cols + tile_side - 1) / tile_side;
  auto const row = blockIdx.x / tiles_across * tile_side;
  auto const col = blockIdx.x % tiles_across * tile_side;
  auto const x = static_cast<int>(threadIdx.x) % tile_side;
  for (int y = static_cast<int>(threadIdx.x) / tile_side; y < tile_side; y += tile_rows)
    if (row + y < rows && col + x < cols) tile[y][x] = from[(row + y) * row_stride + col + x];
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.x) / tile_side; y < tile_side; y += tile_rows)
    if (row + x < rows && col + y < cols) to[(col + y) * pitch + row + x] = tile[x][y];
}

}  // namespace sara::cuda::detail
