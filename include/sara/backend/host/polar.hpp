// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <concepts>
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

/// U_r V_rᵀ at the entries, over the singular values that are not zero: the subgradient of least norm.
/// (SaRA, eq. 4 and 5)
///
/// In double whatever the weights are: in float, U Vᵀ of a square matrix is percents off where its smallest singular
/// values are. A template, since no unit that takes no norm shall compile a decomposition.
/// Complexity: one thin SVD, O(rows² · cols). Extra memory: about four dense matrices.
template <class Svd = Eigen::BDCSVD<Eigen::MatrixXd>>
[[nodiscard]] std::vector<double> svd_factor(occupied_matrix const& a) {
  Eigen::MatrixXd dense = Eigen::MatrixXd::Zero(a.rows, a.cols);
  for (std::size_t k = 0; k < a.value.size(); ++k) dense(a.row[k], a.col[k]) = a.value[k];
  Svd const svd{dense, Eigen::ComputeThinU | Eigen::ComputeThinV};
  auto const& sigma = svd.singularValues();
  auto const smallest = zero_singular_value * sigma(0);
  Eigen::Index rank = 0;
  while (rank < sigma.size() && sigma(rank) > smallest) ++rank;
  dense.noalias() = svd.matrixU().leftCols(rank) * svd.matrixV().leftCols(rank).transpose();
  std::vector<double> out;
  for (std::size_t k = 0; k < a.value.size(); ++k) out.push_back(dense(a.row[k], a.col[k]));
  return out;
}

/// U_r V_rᵀ at the entries by an iteration, where it resolves the matrix: in double, but first in float where that is
/// the weights' type and the matrix so large that float is faster.
template <Real R>
[[nodiscard]] std::optional<std::vector<double>> iterated_factor(thread_pool& pool, occupied_matrix const& a) {
  constexpr std::int64_t rows_for_float = 192;
  if constexpr (std::same_as<R, float>)
    if (a.rows >= rows_for_float)
      if (auto const factor = rational_polar_factor<float>(pool, a)) return factor->at_entries();
  if (auto const factor = rational_polar_factor<double>(pool, a)) return factor->at_entries();
  return std::nullopt;
}

/// Adds weight · factor to the gradient's slots and returns the norm, ‖A‖_* = ⟨A, U_r V_rᵀ⟩, a sum over the entries.
template <Real R>
[[nodiscard]] double add_factor(occupied_matrix const& a, std::vector<double> const& factor, double weight,
                                R* gradient) {
  double norm = 0;
  for (std::size_t k = 0; k < factor.size(); ++k) {
    norm += a.value[k] * factor[k];
    gradient[a.slot[k]] += static_cast<R>(weight * factor[k]);
  }
  return std::ldexp(norm, a.exponent);
}

/// The nuclear norm of the matrix that holds `values` at `positions`, and weight · (U_r V_rᵀ)[M] added to `gradient`.
/// @param engine  f(occupied matrix) → the factor at its entries within polar_error, or nothing where the matrix is
/// beyond its bound: then a decomposition
template <Positions P, Real R, class Engine>
[[nodiscard]] double add_polar_factor(P positions, R const* values, double weight, R* gradient, Engine&& engine) {
  auto const a = occupied(positions, values);
  if (!a.is_finite) {  // stays visible
    std::fill_n(gradient, positions.count(), std::numeric_limits<R>::quiet_NaN());
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (a.rows == 0) return 0;
  if (auto const factor = engine(a)) return add_factor(a, *factor, weight, gradient);
  return add_factor(a, svd_factor(a), weight, gradient);
}

/// Whether an iteration is worth a try: not for a matrix so small that a decomposition is faster than its fixed costs,
/// or that its smallest singular values are often below what the iteration resolves.
[[nodiscard]] inline bool iteration_pays(occupied_matrix const& a) { return a.rows >= 64; }

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool&, exact_svd, P positions, R const* values, double weight, R* gradient) {
  return add_polar_factor(positions, values, weight, gradient,
                          [](occupied_matrix const& a) { return std::optional{svd_factor(a)}; });
}

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool& pool, qdwh, P positions, R const* values, double weight, R* gradient) {
  return add_polar_factor(positions, values, weight, gradient,
                          [&](occupied_matrix const& a) { return iterated_factor<R>(pool, a); });
}

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool&, polar_express, P positions, R const* values, double weight,
                                  R* gradient) {
  return add_polar_factor(positions, values, weight, gradient, polar_express_factor<double>);
}

template <Positions P, Real R>
[[nodiscard]] double polar_factor(thread_pool& pool, automatic_polar, P positions, R const* values, double weight,
                                  R* gradient) {
  return add_polar_factor(positions, values, weight, gradient, [&](occupied_matrix const& a) {
    return iteration_pays(a) ? iterated_factor<R>(pool, a) : std::nullopt;
  });
}

}  // namespace sara::detail
