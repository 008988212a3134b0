// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/SVD>
#include <cstdint>
#include <limits>
#include <vector>

#include <sara/backend/positions.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::detail {

/// The nuclear norm of the matrix that holds `values` at `positions`, and weight · (U_r V_rᵀ)[M] added to `gradient`.
///
/// Rows and columns without an entry at M change neither and are left out. U_r V_rᵀ is taken over σ_i above
/// max(rows, cols) · ε · σ_1, the numerical rank: the subgradient of least norm (SaRA, eq. 4 and 5).
/// Complexity: one thin SVD, O(rows · cols · min(rows, cols)). Extra memory: about four dense matrices of the
/// occupied rows and columns.
template <Positions P, Real R>
[[nodiscard]] double exact_polar_factor(P positions, R const* values, double weight, R* gradient) {
  using matrix = Eigen::Matrix<R, Eigen::Dynamic, Eigen::Dynamic>;
  auto const shape = positions.shape();
  std::vector<Eigen::Index> row_of(static_cast<std::size_t>(shape.rows), -1);
  std::vector<Eigen::Index> col_of(static_cast<std::size_t>(shape.cols), -1);
  auto const at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  Eigen::Index rows = 0;
  Eigen::Index cols = 0;
  auto const each = [&](auto&& f) {
    positions.for_each(0, positions.count(), [&](std::int64_t slot, std::int64_t position) {
      f(slot, at(position / shape.cols), at(position % shape.cols));
    });
  };
  each([&](std::int64_t, std::size_t row, std::size_t col) {
    if (row_of[row] < 0) row_of[row] = rows++;
    if (col_of[col] < 0) col_of[col] = cols++;
  });
  if (rows == 0) return 0;

  matrix a = matrix::Zero(rows, cols);
  each([&](std::int64_t slot, std::size_t row, std::size_t col) { a(row_of[row], col_of[col]) = values[slot]; });
  Eigen::BDCSVD<matrix> const svd{a, Eigen::ComputeThinU | Eigen::ComputeThinV};
  auto const& sigma = svd.singularValues();
  auto const smallest = static_cast<R>(std::max(rows, cols)) * std::numeric_limits<R>::epsilon() * sigma(0);
  Eigen::Index rank = 0;
  while (rank < sigma.size() && sigma(rank) > smallest) ++rank;
  a.noalias() = svd.matrixU().leftCols(rank) * svd.matrixV().leftCols(rank).transpose();
  each([&](std::int64_t slot, std::size_t row, std::size_t col) {
    gradient[slot] += static_cast<R>(weight * static_cast<double>(a(row_of[row], col_of[col])));
  });
  return sigma.template cast<double>().sum();
}

}  // namespace sara::detail
