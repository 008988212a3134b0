// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <sara/backend/thread_pool.hpp>
#include "strips.hpp"

/// The two products that carry nearly all the time of the network, and the small sums around them.
namespace unet {

/// One vector, as wide as a register or a part of one; arithmetic on it is elementwise.
template <class Real, std::int64_t Lanes>
struct vector_of {
  typedef Real type __attribute__((vector_size(Lanes * sizeof(Real))));  // NOLINT: the attribute needs a typedef
};
template <class Real, std::int64_t Lanes = lanes<Real>>
using vector = typename vector_of<Real, Lanes>::type;

/// Output channels one tile computes; weights are packed in blocks of as many.
inline constexpr int channel_block = registers / 4;
/// Vectors of positions one tile computes: three fourths of the registers are its sums.
inline constexpr int position_block = 3;

/// The weights of a sum over channels and taps, as they lie in a convolution's weight.
template <class Real>
struct strided_weights {
  Real const* values;
  std::int64_t outputs, output_stride;
  std::int64_t channels, channel_stride;
  std::span<std::int64_t const> taps;  ///< which of each channel's taps

  [[nodiscard]] std::int64_t sources() const { return channels * static_cast<std::int64_t>(taps.size()); }
};

/// Packs weights for `shifted_product`: [outputs / channel_block][sources][channel_block], missing outputs as zeros.
/// @param packed  resized to hold the result
template <class Real>
void pack_weights(sara::thread_pool& pool, std::vector<Real>& packed, strided_weights<Real> const& weights) {
  auto const blocks = round_up(weights.outputs, channel_block) / channel_block;
  auto const size_of_block = weights.sources() * channel_block;
  packed.resize(static_cast<std::size_t>(blocks * size_of_block));
  pool.parallel_for(blocks, [&](std::int64_t block) {
    Real* to = packed.data() + block * size_of_block;
    auto const first = block * channel_block;
    for (std::int64_t channel = 0; channel < weights.channels; ++channel)
      for (auto const tap : weights.taps)
        for (auto o = first; o < first + channel_block; ++o)
          *to++ = o < weights.outputs
                      ? weights.values[o * weights.output_stride + channel * weights.channel_stride + tap]
                      : Real{0};
  });
}

/// Where the vectors lie that a product computes: on the pixels alone where whole runs of them fill vectors, otherwise
/// on all positions, whose padding must then be made zero again.
template <class Real>
struct vector_places {
  /// Runs of fewer than two numbers are not gathered.
  static constexpr auto most_rows = static_cast<int>(std::min<std::int64_t>(4, lanes<Real> / 2));

  explicit vector_places(grid const& where) {
    for (auto rows = 2; rows <= most_rows; rows *= 2)
      if (where.width * rows == lanes<Real> && where.height % rows == 0) rows_of_vector = rows;
    pixels_only = where.width % lanes<Real> == 0 || rows_of_vector > 1;
    if (!pixels_only) {
      for (std::int64_t p = 0; p < where.span<Real>(); p += lanes<Real>) begins.push_back(p);
      return;
    }
    for (std::int64_t n = 0; n < where.batch; ++n)
      for (std::int64_t row = 0; row < where.height; row += rows_of_vector)
        for (std::int64_t column = 0; column < where.width; column += lanes<Real>)
          begins.push_back(n * where.image_pitch() + row * where.pitch() + column);
  }

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(begins.size()); }

  std::vector<std::int64_t> begins;  ///< position of each vector's first number
  int rows_of_vector = 1;            ///< a vector is as many runs of lanes / rows_of_vector pixels, one below the other
  bool pixels_only = false;
};

namespace detail {

template <class Real, std::int64_t Lanes, std::size_t... I>
void join(vector<Real, Lanes>& whole, vector<Real, Lanes / 2> const& first, vector<Real, Lanes / 2> const& second,
          std::index_sequence<I...>) {
  whole = __builtin_shufflevector(first, second, static_cast<int>(I)...);
}

/// A vector of `Rows` runs that begin `pitch` apart.
template <int Rows, class Real, std::int64_t Lanes = lanes<Real>>
void load(vector<Real, Lanes>& to, Real const* from, std::int64_t pitch) {
  if constexpr (Rows == 1) {
    std::memcpy(&to, from, sizeof to);
  } else {
    vector<Real, Lanes / 2> first, second;
    load<Rows / 2, Real, Lanes / 2>(first, from, pitch);
    load<Rows / 2, Real, Lanes / 2>(second, from + Rows / 2 * pitch, pitch);
    join<Real, Lanes>(to, first, second, std::make_index_sequence<static_cast<std::size_t>(Lanes)>{});
  }
}

/// The reverse of `load`.
template <int Rows, class Real>
void store(vector<Real> const& from, Real* to, std::int64_t pitch) {
  constexpr std::ptrdiff_t run = sizeof from / Rows;
  for (int r = 0; r < Rows; ++r)
    std::memcpy(to + r * pitch, reinterpret_cast<char const*>(&from) + r * run, std::size_t{run});
}

/// sum[r][v] += Σ_k weights[k][r] · sources[k][begins[v] …]: vectors that stay in registers.
/// @param next   the next tile's begins
/// @param fetch  asks for what is there: a strip is read in pieces too short for the processor to see what comes next
template <int Rows, class Real>
void product_tile(std::span<Real const* const> sources, Real const* weights,
                  std::array<std::int64_t, position_block> const& begins,
                  std::array<std::int64_t, position_block> const& next, bool fetch, std::int64_t pitch,
                  vector<Real> (&sum)[channel_block][position_block]) {
  static_assert(position_block == 3);
  // The unrolling makes every index a constant; only then do compilers keep the sums in registers.
  vector<Real> total[channel_block][3];
#pragma GCC unroll 8
  for (int r = 0; r < channel_block; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) total[r][v] = sum[r][v];
  for (Real const* source : sources) {
    vector<Real> x0, x1, x2;
    load<Rows>(x0, source + begins[0], pitch);
    load<Rows>(x1, source + begins[1], pitch);
    load<Rows>(x2, source + begins[2], pitch);
    if (fetch)
      for (auto const p : next) __builtin_prefetch(source + p);
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

/// One call of `shifted_product`.
template <class Real>
struct product_call {
  std::span<Real const* const> sources;
  std::span<Real const> packed;
  std::span<Real const> bias;
  strips<Real> const& outputs;
  vector_places<Real> const& places;
  strips<Real const> plus;

  [[nodiscard]] std::int64_t blocks() const { return round_up(outputs.channels, channel_block) / channel_block; }

  /// The outputs of a block at three vectors from `number` on, of those before `end`.
  /// @param fetch  asks for the sources of the next three
  template <int Rows>
  void tile(std::int64_t block, std::int64_t number, std::int64_t end, bool fetch) const {
    auto const begins = begins_at(number, end), next = begins_at(number + position_block, end);
    auto const pitch = outputs.grid.pitch();
    auto const first = block * channel_block;
    auto const rows = static_cast<int>(std::min<std::int64_t>(channel_block, outputs.channels - first));
    for (int r = 0; r < rows; ++r)
      for (auto const p : next) __builtin_prefetch(outputs[first + r] + p, 1);
    vector<Real> sum[channel_block][position_block] = {};
    if (!bias.empty())
      for (int r = 0; r < rows; ++r)
        for (auto& s : sum[r]) s += bias[static_cast<std::size_t>(first + r)];
    if (plus.first)
      for (int r = 0; r < rows; ++r)
        for (std::size_t v = 0; v < position_block; ++v) {
          vector<Real> y;
          detail::load<Rows, Real>(y, plus[first + r] + begins[v], pitch);
          sum[r][v] += y;
        }
    auto const size_of_block = static_cast<std::int64_t>(sources.size()) * channel_block;
    detail::product_tile<Rows>(sources, packed.data() + block * size_of_block, begins, next, fetch, pitch, sum);
    for (int r = 0; r < rows; ++r)
      for (std::size_t v = 0; v < position_block; ++v)
        detail::store<Rows, Real>(sum[r][v], outputs[first + r] + begins[v], pitch);
  }

 private:
  /// Where three vectors begin; the last one again for those from `end` on.
  [[nodiscard]] std::array<std::int64_t, position_block> begins_at(std::int64_t number, std::int64_t end) const {
    std::array<std::int64_t, position_block> begins;
    for (std::size_t v = 0; v < position_block; ++v)
      begins[v] = places.begins[static_cast<std::size_t>(std::min(number + static_cast<std::int64_t>(v), end - 1))];
    return begins;
  }
};

/// Weighted sums of shifted strips: Y[o][p] = bias[o] + Σ_k w[o, k] · sources[k][p], padding zero.
///
/// This is every convolution here, forwards and backwards: a source is an input channel's strip moved by a tap.
/// @param sources     first position of each source; readable over outputs.grid.span()
/// @param packed      weights from `pack_weights` for as many outputs and sources
/// @param bias        [outputs], or empty for none
/// @param plus        what the sums are added to, maybe the outputs themselves; nothing where its `first` is null
/// Each output is one sum in the order of k, so the bits do not depend on the threads.
/// @par Complexity  2 · outputs · sources · pixels flops
template <class Real>
void shifted_product(sara::thread_pool& pool, std::span<Real const* const> sources, std::span<Real const> packed,
                     std::span<Real const> bias, strips<Real> const& outputs, strips<Real const> const& plus = {}) {
  vector_places<Real> const places{outputs.grid};
  product_call<Real> const call{sources, packed, bias, outputs, places, plus};
  constexpr auto most = vector_places<Real>::most_rows;
  auto const tile = places.rows_of_vector == 4   ? &product_call<Real>::template tile<std::min(4, most)>
                    : places.rows_of_vector == 2 ? &product_call<Real>::template tile<std::min(2, most)>
                                                 : &product_call<Real>::template tile<1>;

  // A chunk of all sources should stay in the second-level cache while the blocks of weights pass over it. Nine
  // sources are one strip most of the time, so this reckons with 512 KiB.
  auto const count = static_cast<std::int64_t>(sources.size());
  auto const chunk_bytes = std::int64_t{512} << 10,
             vector_bytes = std::max<std::int64_t>(1, count / 9) * register_bytes;
  auto const chunk =
      std::clamp(chunk_bytes / vector_bytes / position_block, std::int64_t{1}, std::int64_t{16}) * position_block;
  auto const chunks = round_up(places.count(), chunk) / chunk;
  auto const groups = std::min(call.blocks(), round_up(16, chunks) / chunks);
  // Where a tile of all sources fits into the first-level cache, all blocks pass over that instead.
  bool const tile_fits = count * position_block * register_bytes <= std::int64_t{32} << 10;

  pool.parallel_for(chunks * groups, [&](std::int64_t task) {
    auto const begin = task / groups * chunk, end = std::min(begin + chunk, places.count());
    auto const group = task % groups;
    auto const first = group * call.blocks() / groups, last = (group + 1) * call.blocks() / groups;
    if (tile_fits)
      for (auto number = begin; number < end; number += position_block)
        for (auto block = first; block < last; ++block) (call.*tile)(block, number, end, block == first);
    else
      for (auto block = first; block < last; ++block)
        for (auto number = begin; number < end; number += position_block) (call.*tile)(block, number, end, true);
    if (places.pixels_only) return;
    for (auto o = first * channel_block; o < std::min(last * channel_block, outputs.channels); ++o)
      zero_padding(outputs.grid, outputs[o], begin * lanes<Real>, end * lanes<Real>);
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
