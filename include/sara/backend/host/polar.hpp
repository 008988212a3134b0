// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backend/host/polar/occupied_matrix.hpp>
#include <sara/backend/host/polar/polar_express.hpp>
#include <sara/backend/host/polar/qdwh.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::detail {

/// The nuclear norm of the matrix that holds `values` at `positions`, and weight · (U_r V_rᵀ)[M] added to `gradient`.
///
/// In double whatever R is: in float, U Vᵀ of a square matrix is percents off where its smallest singular values are.
/// Rows and columns without an entry at M change neither and are left out. U_r V_rᵀ is taken over σ_i above
/// max(rows, cols) · ε · σ_1, the numerical rank: the subgradient of least norm (SaRA, eq. 4 and 5).
/// Complexity: one thin SVD, O(rows · cols · min(rows, cols)). Extra memory: about four dense matrices of the
/// occupied rows and columns, in double.
template <Positions P, Real R>
[[nodiscard]] double exact_polar_factor(P positions, R const* values, double weight, R* gradient) {
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

  Eigen::MatrixXd a = Eigen::MatrixXd::Zero(rows, cols);
  each(
      [&](std::int64_t slot, std::size_t row, std::size_t col) { a(row_of[row], col_of[col]) = double{values[slot]}; });
  Eigen::BDCSVD<Eigen::MatrixXd> const svd{a, Eigen::ComputeThinU | Eigen::ComputeThinV};
  if (svd.info() == Eigen::InvalidInput) {  // values that are not finite stay visible
    constexpr auto nan = std::numeric_limits<R>::quiet_NaN();
    each([&](std::int64_t slot, std::size_t, std::size_t) { gradient[slot] = nan; });
    return static_cast<double>(nan);
  }
  auto const& sigma = svd.singularValues();
  auto const smallest = static_cast<double>(std::max(rows, cols)) * std::numeric_limits<double>::epsilon() * sigma(0);
  Eigen::Index rank = 0;
  while (rank < sigma.size() && sigma(rank) > smallest) ++rank;
  a.noalias() = svd.matrixU().leftCols(rank) * svd.matrixV().leftCols(rank).transpose();
  each([&](std::int64_t slot, std::size_t row, std::size_t col) {
    gradient[slot] += static_cast<R>(weight * a(row_of[row], col_of[col]));
  });
  return sigma.sum();
}

/// Adds weight · factor to the gradient's slots and returns the norm, ‖A‖_* = ⟨A, U_r V_rᵀ⟩, a sum over the entries.
template <Real R, Real F>
[[nodiscard]] double add_factor(occupied_matrix const& a, std::vector<F> const& factor, double weight, R* gradient) {
  double norm = 0;
  for (std::size_t k = 0; k < factor.size(); ++k) {
    auto const at = static_cast<double>(factor[k]);
    norm += a.value[k] * at;
    gradient[a.slot[k]] += static_cast<R>(weight * at);
  }
  return std::ldexp(norm, a.exponent);
}

/// exact_polar_factor within polar_error by an engine f(occupied matrix) → factor at its entries, or nothing where the
/// matrix is beyond its bound: then a decomposition.
template <Positions P, Real R, class Engine>
[[nodiscard]] double bounded_polar_factor(P positions, R const* values, double weight, R* gradient, Engine&& engine) {
  auto const a = occupied(positions, values);
  if (a.is_finite) {
    if (a.rows == 0) return 0;
    if (auto const factor = engine(a)) return add_factor(a, *factor, weight, gradient);
  }
  return exact_polar_factor(positions, values, weight, gradient);
}

/// Whether an iteration is worth a try: not for a matrix so small that a decomposition is faster than its fixed costs,
/// or that its smallest singular values are often below what the iteration resolves.
[[nodiscard]] inline bool iteration_pays(occupied_matrix const& a) { return a.rows >= 64; }

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool&, exact_svd, P positions, R const* values, double weight, R* gradient) {
  return exact_polar_factor(positions, values, weight, gradient);
}

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool& pool, qdwh, P positions, R const* values, double weight, R* gradient) {
  return bounded_polar_factor(positions, values, weight, gradient, [&](occupied_matrix const& a) {
    auto const factor = rational_polar_factor<R>(pool, a);
    return factor ? std::optional{factor->at_entries(pool)} : std::nullopt;
  });
}

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool&, polar_express, P positions, R const* values, double weight,
                                  R* gradient) {
  return bounded_polar_factor(positions, values, weight, gradient, polar_express_factor<double>);
}

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool& pool, automatic_polar, P positions, R const* values, double weight,
                                  R* gradient) {
  return bounded_polar_factor(positions, values, weight, gradient,
                              [&](occupied_matrix const& a) -> std::optional<std::vector<R>> {
                                if (!iteration_pays(a)) return std::nullopt;
                                auto const factor = rational_polar_factor<R>(pool, a);
                                if (!factor) return std::nullopt;
                                return factor->at_entries(pool);
                              });
}

}  // namespace sara::detail
