// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include <sara/backend/convolution.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/error.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Partial sums of a dot product; fixed, so that the order of additions is the same on every machine.
inline constexpr std::int64_t dot_lanes = 16;
/// Dot products with one row that are computed together: enough to hide the latency of an addition.
inline constexpr std::size_t dots_together = 8;
/// Elements that a sampled product packs at a time, for dY and X together: about 1 MiB in float32.
inline constexpr std::int64_t strip_budget = 1 << 18;

[[nodiscard]] constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

/// out[c] += a · b[c] for N strips at once; length a multiple of dot_lanes.
template <std::size_t N, Real R>
void add_dots(R const* a, std::array<R const*, dots_together> const& b, std::int64_t length,
              std::array<R*, dots_together> const& out) {
  using lanes = Eigen::Array<R, dot_lanes, 1>;
  using strip = Eigen::Map<lanes const>;
  std::array<lanes, N> sums;
  for (auto& sum : sums) sum.setZero();
  for (std::int64_t i = 0; i < length; i += dot_lanes) {
    lanes const row = strip{a + i};
    for (std::size_t c = 0; c < N; ++c) sums[c] += row * strip{b[c] + i};
  }
  for (std::size_t c = 0; c < N; ++c) {
    auto const by_eight = (sums[c].template head<8>() + sums[c].template tail<8>()).eval();
    auto const by_four = (by_eight.template head<4>() + by_eight.template tail<4>()).eval();
    *out[c] += (by_four[0] + by_four[2]) + (by_four[1] + by_four[3]);
  }
}

/// add_dots for a number of strips known at run time, from 0 to N.
template <std::size_t N, Real R>
void add_some_dots(std::size_t count, R const* a, std::array<R const*, dots_together> const& b, std::int64_t length,
                   std::array<R*, dots_together> const& out) {
  if constexpr (N > 0) {
    if (count == N)
      add_dots<N>(a, b, length, out);
    else
      add_some_dots<N - 1>(count, a, b, length, out);
  }
}

/// out[j] += row_strip(row_j) · column_strip(row_j, col_j) at every position: the sampled product of two sets of
/// strips, contiguous along the reduction. Rows are shared out in blocks, so no two threads write one slot.
/// Complexity: 2 · nnz · length flops; one read of a column's strip an entry, one of a row's strip for every eight.
template <Positions P, Real R, class RowStrip, class ColumnStrip>
void add_strip_products(thread_pool& pool, P positions, std::int64_t length, RowStrip&& row_strip,
                        ColumnStrip&& column_strip, R* out) {
  constexpr std::int64_t rows_per_task = 8;
  auto const shape = positions.shape();
  pool.parallel_for((shape.rows + rows_per_task - 1) / rows_per_task, [&](std::int64_t task) {
    auto const last_row = std::min(shape.rows, (task + 1) * rows_per_task);
    auto first_slot = positions.lower_bound(task * rows_per_task * shape.cols);
    for (auto row = task * rows_per_task; row < last_row; ++row) {
      auto const last_slot = positions.lower_bound((row + 1) * shape.cols);
      R const* const a = row_strip(row);
      std::array<R const*, dots_together> columns{};
      std::array<R*, dots_together> slots{};
      std::size_t waiting = 0;
      positions.for_each(first_slot, last_slot, [&](std::int64_t slot, std::int64_t position) {
        columns[waiting] = column_strip(row, position - row * shape.cols);
        slots[waiting] = out + slot;
        if (++waiting == dots_together) {
          add_dots<dots_together>(a, columns, length, slots);
          waiting = 0;
        }
      });
      add_some_dots<dots_together - 1>(waiting, a, columns, length, slots);
      first_slot = last_slot;
    }
  });
}

/// A tensor [..., channels] as a matrix [rows, cols] with strides, of any dtype.
struct strided_matrix {
  const_tensor_view tensor;
  std::int64_t rows, cols, row_stride, col_stride;
};

/// Joins the leading dimensions.
/// @throws shape_error  where these are not equally spaced in memory
[[nodiscard]] inline strided_matrix as_matrix(char const* what, const_tensor_view const& v) {
  require<shape_error>(v.rank() >= 1, what, ": expected extents [..., channels], got a scalar");
  int const last = v.rank() - 1;
  std::int64_t rows = 1;
  std::int64_t stride = 0;
  for (int d = last - 1; d >= 0; --d) {
    if (v.shape()[d] == 1) continue;
    require<shape_error>(rows == 1 || v.stride()[d] == rows * stride, what,
                         ": expected leading dimensions that join to one (make the tensor contiguous), got extents ",
                         v.shape(), " with strides ", v.stride());
    if (rows == 1) stride = v.stride()[d];
    rows *= v.shape()[d];
  }
  if (v.size() == 0) rows = 0;
  return {v, rows, v.shape()[last], stride, v.stride()[last]};
}

/// Rows [first, first + count) of m, transposed: strip c holds column c, padded with zeros to `pitch`.
template <Real R>
void pack_columns(thread_pool& pool, strided_matrix const& m, std::int64_t first, std::int64_t count,
                  std::int64_t pitch, R* strips) {
  constexpr std::int64_t block = 64;
  visit(m.tensor.type(), [&]<class T>() {
    auto const* data = m.tensor.template as<T>().data;
    pool.parallel_for((m.cols + block - 1) / block, [&](std::int64_t task) {
      auto const last = std::min(m.cols, (task + 1) * block);
      for (std::int64_t i = 0; i < count; ++i) {
        auto const* from = data + (first + i) * m.row_stride;
        for (auto c = task * block; c < last; ++c)
          strips[c * pitch + i] = static_cast<R>(widen(from[c * m.col_stride]));
      }
      for (auto c = task * block; c < last; ++c) std::fill(strips + c * pitch + count, strips + (c + 1) * pitch, R{0});
    });
  });
}

/// out[j] += Σ_b dy[b, row_j] · x[b, col_j], with dy [batch, rows] and x [batch, cols].
/// Workspace: (rows + cols) strips of at least 16 elements, at most strip_budget elements beyond that.
template <Positions P, Real R>
void sampled_product(thread_pool& pool, strided_matrix const& dy, strided_matrix const& x, P positions, R* out) {
  auto const strips = dy.cols + x.cols;
  if (positions.count() == 0 || dy.rows == 0) return;
  auto const pitch =
      std::min(round_up(dy.rows, dot_lanes), std::max(dot_lanes, strip_budget / strips / dot_lanes * dot_lanes));
  std::vector<R> workspace(static_cast<std::size_t>(strips * pitch));
  R* const dy_strips = workspace.data();
  R* const x_strips = workspace.data() + dy.cols * pitch;
  for (std::int64_t first = 0; first < dy.rows; first += pitch) {
    auto const count = std::min(pitch, dy.rows - first);
    pack_columns(pool, dy, first, count, pitch, dy_strips);
    pack_columns(pool, x, first, count, pitch, x_strips);
    add_strip_products(
        pool, positions, round_up(count, dot_lanes), [&](std::int64_t row) { return dy_strips + row * pitch; },
        [&](std::int64_t, std::int64_t col) { return x_strips + col * pitch; }, out);
  }
}

}  // namespace sara::detail
