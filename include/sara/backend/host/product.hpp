// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/host/dense_product.hpp>
#include <sara/backend/host/strips.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/strided_matrix.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/error.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// to[c · pitch + r] = from[r · row_stride + c · col_stride] for r < rows, c < cols, neither above lane_count; zero for
/// the other r.
template <Real R, Scalar T>
void transpose_tile(T const* from, std::int64_t row_stride, std::int64_t col_stride, std::int64_t rows,
                    std::int64_t cols, R* to, std::int64_t pitch) {
  constexpr auto n = vector_length<R>;
  std::array<lanes<R>, lane_count<R>> tile;
  if (rows == n && cols == n && col_stride == 1) {
    SARA_UNROLL
    for (std::int64_t r = 0; r < n; ++r) {
      auto& row = tile[static_cast<std::size_t>(r)];
      if constexpr (std::is_same_v<T, R>) {
        __builtin_prefetch(from + r * row_stride + 2 * n);  // these are too many streams for the hardware
        load<R>(row, from + r * row_stride);
      } else {
        std::array<R, lane_count<R>> values;
        for (std::int64_t c = 0; c < n; ++c)
          values[static_cast<std::size_t>(c)] = static_cast<R>(widen(from[r * row_stride + c]));
        load<R>(row, values.data());
      }
    }
    transpose<R>(tile);
    SARA_UNROLL
    for (std::int64_t c = 0; c < n; ++c) store<R>(tile[static_cast<std::size_t>(c)], to + c * pitch);
    return;
  }
  for (std::int64_t c = 0; c < cols; ++c)
    for (std::int64_t r = 0; r < n; ++r)
      to[c * pitch + r] = r < rows ? static_cast<R>(widen(from[r * row_stride + c * col_stride])) : R{0};
}

/// Part of a matrix.
struct matrix_block {
  std::int64_t first_row, rows;
  std::int64_t first_column, columns;
};

/// A block of m, transposed into panels: element i of its column c is at to[(i / panel · columns + c) · panel + i %
/// panel], zero past the last row up to the end of its step.
/// One read and one write of each element; four instructions a vector and stage of the transposition.
template <Real R>
void pack_transposed(strided_matrix const& m, matrix_block const& block, R* to) {
  constexpr auto n = vector_length<R>;
  visit(m.tensor.type(), [&]<class T>() {
    auto const* const data = m.tensor.template as<T>().data + block.first_column * m.col_stride;
    for (std::int64_t row = 0; row < padded_length<R>(block.rows); row += n) {
      auto const* const from = data + (block.first_row + row) * m.row_stride;
      R* const panel = to + row / panel_length<R> * block.columns * panel_length<R> + row % panel_length<R>;
      for (std::int64_t col = 0; col < block.columns; col += n)
        transpose_tile<R, T>(from + col * m.col_stride, m.row_stride, m.col_stride, std::min(n, block.rows - row),
                             std::min(n, block.columns - col), panel + col * panel_length<R>, panel_length<R>);
    }
  });
}

/// Rows [first, first + count) of m as R, row-major, without gaps.
template <Real R>
void pack_rows(thread_pool& pool, strided_matrix const& m, std::int64_t first, std::int64_t count, R* to) {
  visit(m.tensor.type(), [&]<class T>() {
    auto const* const data = m.tensor.template as<T>().data;
    pool.parallel_for(count, [&](std::int64_t r) {
      auto const* const from = data + (first + r) * m.row_stride;
      for (std::int64_t c = 0; c < m.cols; ++c) to[r * m.cols + c] = static_cast<R>(widen(from[c * m.col_stride]));
    });
  });
}

/// The matrix itself as an operand, where it is row-major and of type R.
template <Real R>
[[nodiscard]] std::optional<dense_operand<R>> as_operand(strided_matrix const& m) {
  if (m.tensor.type() != dtype_of<R> || m.col_stride != 1 || m.row_stride < m.cols) return {};
  return dense_operand<R>{m.tensor.template as<R>().data, m.row_stride};
}

/// sampled_product for positions that are nearly all of the matrix.
/// Workspace: that of add_dense_products; and of dY and X, where they are not row-major of type R, some rows at a time:
/// strip_budget elements, or a panel of rows.
template <Positions P, Real R>
void nearly_dense_product(thread_pool& pool, strided_matrix const& dy, strided_matrix const& x, P positions, R* out) {
  auto const dy_operand = as_operand<R>(dy), x_operand = as_operand<R>(x);
  auto const dy_packed = dy_operand ? 0 : dy.cols, x_packed = x_operand ? 0 : x.cols;
  auto const most = dy_packed + x_packed == 0 ? dy.rows : strip_budget / (dy_packed + x_packed);
  auto const depth = std::min(dy.rows, std::max(panel_length<R>, most));
  struct workspace;
  R* const rows = scratch<workspace, R>((dy_packed + x_packed) * depth);
  for (std::int64_t first = 0; first < dy.rows; first += depth) {
    auto const count = std::min(depth, dy.rows - first);
    auto const operand = [&](strided_matrix const& m, std::optional<dense_operand<R>> const& at_hand, R* to) {
      if (at_hand) return dense_operand<R>{at_hand->data + first * at_hand->pitch, at_hand->pitch};
      pack_rows(pool, m, first, count, to);
      return dense_operand<R>{to, m.cols};
    };
    add_dense_products(pool, count, operand(dy, dy_operand, rows), operand(x, x_operand, rows + dy_packed * depth),
                       positions, out);
  }
}

/// What one part of a plan is of sampled_product, by the calling thread.
template <Real R>
void add_part(strided_matrix const& dy, strided_matrix const& x, host_sampling_plan const& plan,
              host_sampling_plan::part const& part, std::uint16_t const* columns, R* out) {
  auto const strip_count = part.rows() + part.columns();
  auto const deepest = std::max<std::int64_t>(1, strip_budget / strip_count / panel_length<R>) * panel_length<R>;
  auto const depth = std::min(deepest, round_up(dy.rows, panel_length<R>));
  struct workspace;
  R* const dy_strips = scratch<workspace, R>(strip_count * depth);
  R* const x_strips = dy_strips + part.rows() * depth;
  std::vector<std::uint32_t> column(static_cast<std::size_t>(x.cols));
  for (auto c = part.first_column; c < part.last_column; ++c)
    column[static_cast<std::size_t>(c)] = static_cast<std::uint32_t>(c - part.first_column) * panel_length<R>;
  strips<R> const packed{dy_strips, panel_length<R>, part.first_row, x_strips, column.data(), 1, 0};
  for (std::int64_t first = 0; first < dy.rows; first += depth) {
    auto const count = std::min(depth, dy.rows - first);
    pack_transposed(dy, {first, count, part.first_row, part.rows()}, dy_strips);
    pack_transposed(x, {first, count, part.first_column, part.columns()}, x_strips);
    auto const reduction =
        cut_steps<R>(count, panel_length<R>, panel_length<R> * part.rows(), panel_length<R> * part.columns());
    add_products(plan, plan.pieces(part), packed, std::span<steps const>{reduction}, columns, out);
  }
}

/// out[j] += Σ_b dy[b, row_j] · x[b, col_j], with dy [batch, rows] and x [batch, cols].
/// Workspace of each thread: strips of a whole number of panels for the rows and columns of its part, at most
/// strip_budget elements if one panel fits.
/// 2 · nnz · batch flops; bytes: one read of dy and x by each band of the plan's other axis, their panels written once,
/// and X's read about nnz / (16 · rows) times from the second-level cache, then from the first.
template <Positions P, Real R>
void sampled_product(thread_pool& pool, strided_matrix const& dy, strided_matrix const& x, P positions,
                     host_sampling_plan const& plan, R* out) {
  auto const* const columns = plan.columns(positions);
  if (positions.count() == 0 || dy.rows == 0) return;
  if (static_cast<double>(positions.count()) >= dense_from * static_cast<double>(positions.shape().size()))
    return nearly_dense_product(pool, dy, x, positions, out);
  require<shape_error>(x.cols * panel_length<R> <= std::int64_t{0xffffffff}, "linear: expected at most ",
                       0xffffffff / panel_length<R>, " input channels, got ", x.cols);
  pool.parallel_for(std::ssize(plan.parts()), [&](std::int64_t i) {
    add_part(dy, x, plan, plan.parts()[static_cast<std::size_t>(i)], columns, out);
  });
}

}  // namespace sara::detail
