// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/host/strips.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::detail {

/// A row-major matrix [depth, columns], its rows `pitch` apart.
template <Real R>
struct dense_operand {
  R const* data;
  std::int64_t pitch;
};

/// The density from which a dense product with a gather is faster: Eigen's product has about 1.4 times the flops of the
/// sampled one, which leaves out the rest. Measured in float32, see docs/performance.md.
inline constexpr double dense_from = 0.7;

/// out[j] += Σ_b dy[b, row_j] · x[b, column_j]: a dense product of some rows at a time, gathered while it is in cache.
/// Workspace of every thread: 128 rows of the gradient, and what Eigen's product packs.
/// 2 · rows · cols · depth flops.
template <Positions P, Real R>
void add_dense_products(thread_pool& pool, std::int64_t depth, dense_operand<R> const& dy, dense_operand<R> const& x,
                        P positions, R* out) {
  using matrix = Eigen::Matrix<R, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using operand = Eigen::Map<matrix const, Eigen::Unaligned, Eigen::OuterStride<>>;
  struct workspace;
  constexpr std::int64_t rows_of_panel = 128;
  auto const shape = positions.shape();
  pool.parallel_for(ceil_div(shape.rows, rows_of_panel), [&](std::int64_t task) {
    auto const first = task * rows_of_panel;
    auto const rows = std::min(rows_of_panel, shape.rows - first);
    R* const panel = scratch<workspace, R>(rows_of_panel * shape.cols);
    operand const left{dy.data + first, depth, rows, Eigen::OuterStride<>{dy.pitch}};
    operand const right{x.data, depth, shape.cols, Eigen::OuterStride<>{x.pitch}};
    Eigen::Map<matrix>{panel, rows, shape.cols}.noalias() = left.transpose() * right;
    auto const origin = first * shape.cols;
    positions.for_each(positions.lower_bound(origin), positions.lower_bound(origin + rows * shape.cols),
                       [&](std::int64_t slot, std::int64_t position) { out[slot] += panel[position - origin]; });
  });
}

}  // namespace sara::detail
