// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <sara/backend/thread_pool.hpp>
#include "strips.hpp"

/// The two products that carry nearly all the time of the network, and the small sums around them.
namespace unet {

/// One vector; arithmetic on it is elementwise, whatever registers the machine has.
template <class Real>
struct vector_of {
  typedef Real type __attribute__((vector_size(64)));  // NOLINT: the attribute needs a typedef
};
template <class Real>
using vector = typename vector_of<Real>::type;

/// Output channels one tile computes; weights are packed in blocks of as many.
inline constexpr int channel_block = 8;

/// Packs weights for `shifted_product`: [outputs / 8][count][8], missing outputs as zeros.
/// @param packed  resized to hold the result
/// @param weight  weight(o, k) is the weight of source k in output o
template <class Real, class Weight>
void pack_weights(std::vector<Real>& packed, std::int64_t outputs, std::int64_t count, Weight&& weight) {
  auto const blocks = round_up(outputs, channel_block) / channel_block;
  packed.resize(static_cast<std::size_t>(blocks * count * channel_block));
  Real* to = packed.data();
  for (std::int64_t block = 0; block < blocks; ++block)
    for (std::int64_t k = 0; k < count; ++k)
      for (int r = 0; r < channel_block; ++r) {
        auto const o = block * channel_block + r;
        *to++ = o < outputs ? weight(o, k) : Real{0};
      }
}

namespace detail {

/// sum[r][v] += Σ_k weights[k][r] · sources[k][p + v · lanes …]: 24 vectors that stay in registers.
template <class Real>
void product_tile(std::span<Real const* const> sources, Real const* weights, std::int64_t p,
                  vector<Real> (&sum)[channel_block][3]) {
  // The unrolling makes every index a constant; only then do compilers keep the 24 sums in registers.
  vector<Real> total[channel_block][3];
#pragma GCC unroll 8
  for (int r = 0; r < channel_block; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) total[r][v] = sum[r][v];
  for (Real const* source : sources) {
    vector<Real> x0, x1, x2;
    std::memcpy(&x0, source + p, sizeof x0);
    std::memcpy(&x1, source + p + lanes<Real>, sizeof x1);
    std::memcpy(&x2, source + p + 2 * lanes<Real>, sizeof x2);
#pragma GCC unroll 8
    for (int r = 0; r < channel_block; ++r) {
      total[r][0] += weights[r] * x0;
      total[r][1] += weights[r] * x1;
      total[r][2] += weights[r] * x2;
    }
    weights += channel_block;
  }
#pragma GCC unroll 8
  for (int r = 0; r < channel_block; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) sum[r][v] = total[r][v];
}

/// sum[r][c] += Σ_p rows[r][p] · columns[c][p] over whole vectors in [begin, end).
template <class Real>
void dot_tile(std::array<Real const*, channel_block> const& rows, std::array<Real const*, 3> const& columns,
              std::int64_t begin, std::int64_t end, Real (&sum)[channel_block][3]) {
  vector<Real> total[channel_block][3] = {};
  for (auto p = begin; p < end; p += lanes<Real>) {
    vector<Real> x0, x1, x2;
    std::memcpy(&x0, columns[0] + p, sizeof x0);
    std::memcpy(&x1, columns[1] + p, sizeof x1);
    std::memcpy(&x2, columns[2] + p, sizeof x2);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < channel_block; ++r) {
      vector<Real> y;
      std::memcpy(&y, rows[r] + p, sizeof y);
      total[r][0] += y * x0;
      total[r][1] += y * x1;
      total[r][2] += y * x2;
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < channel_block; ++r)
#pragma GCC unroll 3
    for (std::size_t c = 0; c < 3; ++c) {
      Real part[lanes<Real>];
      std::memcpy(&part, &total[r][c], sizeof part);
      for (auto half = lanes<Real> / 2; half > 0; half /= 2)
        for (std::int64_t l = 0; l < half; ++l) part[l] += part[l + half];
      sum[r][c] += part[0];
    }
}

}  // namespace detail

/// Weighted sums of shifted strips: Y[o][p] = bias[o] + Σ_k w[o, k] · sources[k][p], padding zero.
///
/// This is every convolution here, forwards and backwards: a source is an input channel's strip moved by a tap.
/// @param sources     first position of each source; readable over outputs.grid.span()
/// @param packed      weights from `pack_weights` for as many outputs and sources
/// @param bias        [outputs], or empty for none
/// @param accumulate  adds to the outputs instead of overwriting them
/// Each output is one sum in the order of k, so the bits do not depend on the threads.
/// @par Complexity  2 · outputs · sources · positions flops
template <class Real>
void shifted_product(sara::thread_pool& pool, std::span<Real const* const> sources, std::span<Real const> packed,
                     std::span<Real const> bias, strips<Real> const& outputs, bool accumulate = false) {
  auto const span = outputs.grid.template span<Real>();
  auto const count = static_cast<std::int64_t>(sources.size());
  auto const blocks = round_up(outputs.channels, channel_block) / channel_block;

  // A chunk of all sources should stay in the second-level cache while the blocks of weights pass over it. Nine
  // sources are one strip most of the time, so this reckons with 512 KiB.
  auto const bytes = std::max<std::int64_t>(1, count / 9) * static_cast<std::int64_t>(sizeof(Real));
  auto const chunk =
      std::clamp((std::int64_t{512} << 10) / bytes / tile<Real>, std::int64_t{1}, std::int64_t{16}) * tile<Real>;
  auto const chunks = round_up(span, chunk) / chunk;
  auto const groups = std::min(blocks, round_up(16, chunks) / chunks);

  pool.parallel_for(chunks * groups, [&](std::int64_t task) {
    auto const begin = task / groups * chunk;
    auto const end = std::min(begin + chunk, span);
    auto const group = task % groups;
    for (auto block = group * blocks / groups; block < (group + 1) * blocks / groups; ++block) {
      auto const first = block * channel_block;
      auto const rows = static_cast<int>(std::min<std::int64_t>(channel_block, outputs.channels - first));
      Real const* const weights = packed.data() + block * count * channel_block;
      for (auto p = begin; p < end; p += tile<Real>) {
        vector<Real> sum[channel_block][3] = {};
        if (!bias.empty())
          for (int r = 0; r < rows; ++r)
            for (auto& s : sum[r]) s += bias[static_cast<std::size_t>(first + r)];
        if (accumulate)
          for (int r = 0; r < rows; ++r) {
            vector<Real> y[3];
            std::memcpy(&y, outputs[first + r] + p, sizeof y);
            for (int v = 0; v < 3; ++v) sum[r][v] += y[v];
          }
        detail::product_tile(sources, weights, p, sum);
        for (int r = 0; r < rows; ++r) std::memcpy(outputs[first + r] + p, &sum[r], sizeof sum[r]);
      }
      for (int r = 0; r < rows; ++r) zero_padding(outputs.grid, outputs[first + r], begin, end);
    }
  });
}

/// Outer product of strips: gradient[o, k] += Σ_p rows[o][p] · columns[k][p], the dense weight gradient of a
/// convolution when the columns are its sources.
/// @param rows      their padding is zero, so what the columns read there does not count
/// @param columns   first position of each source
/// @param gradient  [rows.channels, columns]
/// Each entry is summed by one task in a fixed order, so the bits do not depend on the threads.
template <class Real>
void outer_product(sara::thread_pool& pool, strips<Real const> const& rows, std::span<Real const* const> columns,
                   std::span<Real> gradient) {
  constexpr std::int64_t chunk = 1024;
  constexpr std::int64_t columns_of_task = 96;
  auto const count = static_cast<std::int64_t>(columns.size());
  auto const span = rows.grid.template span<Real>();
  auto const blocks = round_up(rows.channels, channel_block) / channel_block;
  pool.parallel_for(round_up(count, columns_of_task) / columns_of_task, [&](std::int64_t task) {
    auto const last = std::min((task + 1) * columns_of_task, count);
    for (std::int64_t begin = 0; begin < span; begin += chunk) {
      auto const end = std::min(begin + chunk, span);
      for (std::int64_t block = 0; block < blocks; ++block) {
        std::array<Real const*, channel_block> row;
        for (std::int64_t r = 0; r < channel_block; ++r)
          row[static_cast<std::size_t>(r)] = rows[std::min(block * channel_block + r, rows.channels - 1)];
        for (auto k = task * columns_of_task; k < last; k += 3) {
          std::array<Real const*, 3> column;
          for (std::int64_t c = 0; c < 3; ++c)
            column[static_cast<std::size_t>(c)] = columns[static_cast<std::size_t>(std::min(k + c, last - 1))];
          Real sum[channel_block][3] = {};
          detail::dot_tile(row, column, begin, end, sum);
          for (std::int64_t r = 0; r < channel_block && block * channel_block + r < rows.channels; ++r)
            for (std::int64_t c = 0; c < 3 && k + c < last; ++c)
              gradient[static_cast<std::size_t>((block * channel_block + r) * count + k + c)] += sum[r][c];
        }
      }
    }
  });
}

/// Σ x over n values, in a fixed order.
template <class Real>
[[nodiscard]] Real sum_of(Real const* x, std::int64_t n) {
  Real part[lanes<Real>] = {};
  std::int64_t j = 0;
  for (; j + lanes<Real> <= n; j += lanes<Real>)
    for (std::int64_t l = 0; l < lanes<Real>; ++l) part[l] += x[j + l];
  Real total{0};
  for (; j < n; ++j) total += x[j];
  for (Real const p : part) total += p;
  return total;
}

/// Σ x·y over n values, in a fixed order.
template <class Real>
[[nodiscard]] Real dot_of(Real const* x, Real const* y, std::int64_t n) {
  Real part[lanes<Real>] = {};
  std::int64_t j = 0;
  for (; j + lanes<Real> <= n; j += lanes<Real>)
    for (std::int64_t l = 0; l < lanes<Real>; ++l) part[l] += x[j + l] * y[j + l];
  Real total{0};
  for (; j < n; ++j) total += x[j] * y[j];
  for (Real const p : part) total += p;
  return total;
}

}  // namespace unet
