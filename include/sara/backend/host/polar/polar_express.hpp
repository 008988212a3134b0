// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backend/host/polar/occupied_matrix.hpp>
#include <sara/backend/odd_quintic.hpp>

namespace sara::detail {

/// U_r V_rᵀ at the entries of A by matrix products alone; nothing where a singular value lies between zero and about
/// 1e-6 of the largest. Five halved first steps come before the eight, to lift singular values from 1e-6 to 1e-3, and
/// two after them bring the error to rounding.
/// Complexity: 15 steps of 3 · rows² · cols flops. Extra memory: three dense matrices, in double.
/// @tparam Computing  the type of the products; a template, so that only units with this engine compile them
template <std::same_as<double> Computing>
[[nodiscard]] std::optional<std::vector<Computing>> polar_express_factor(occupied_matrix const& a) {
  using matrix = Eigen::Matrix<Computing, Eigen::Dynamic, Eigen::Dynamic>;
  constexpr int lifts = 5;
  constexpr int polishes = 2;
  auto const scale = 1.04 * largest_singular_value(a);
  matrix const dense = [&] {
    matrix out = matrix::Zero(a.rows, a.cols);
    for (std::size_t k = 0; k < a.value.size(); ++k) out(a.row[k], a.col[k]) = a.value[k] / scale;
    return out;
  }();
  matrix x = dense;
  matrix gram(a.rows, a.rows);
  matrix factor(a.rows, a.rows);
  auto const step = [&](odd_quintic const& f, double times) {
    gram.noalias() = x * x.transpose();
    factor.noalias() = times * f.c * gram * gram;
    factor += times * f.b * gram;
    factor.diagonal().array() += times * f.a;
    x = factor * x;
  };
  for (int k = 0; k < lifts; ++k) step(polar_express_steps.front(), 0.5);
  for (auto const& f : polar_express_steps) step(f, 1);
  for (int k = 0; k < polishes; ++k) step(polar_express_steps.back(), 1);

  // U Uᵀ is a projection where every singular value has arrived at one or has stayed at zero, and a zero is one of A.
  gram.noalias() = x * x.transpose();
  factor.noalias() = gram * gram - gram;
  if (!(factor.norm() <= 1e-8 * std::sqrt(static_cast<double>(a.rows)))) return std::nullopt;
  if (!((gram * dense - dense).norm() <= zero_singular_value * dense.norm())) return std::nullopt;
  std::vector<double> out(a.value.size());
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = x(a.row[k], a.col[k]);
  return out;
}

}  // namespace sara::detail
