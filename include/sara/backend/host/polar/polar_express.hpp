// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <sara/backend/host/polar/occupied_matrix.hpp>

namespace sara::detail {

/// a x + b x³ + c x⁵
struct odd_quintic {
  double a, b, c;
};

/// Polar Express (Amsel et al. 2025): the best odd quintics, one after the other, for singular values of [1e-3, 1].
inline constexpr std::array<odd_quintic, 8> polar_express_steps{{
    {8.28721201814563, -23.595886519098837, 17.300387312530933},
    {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
    {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
    {3.3184196573706015, -2.488488024314874, 0.51004894012372},
    {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
    {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
    {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
    {1.875, -1.25, 0.375},
}};

/// U_r V_rᵀ at the entries of A by matrix products alone, in double; nothing where a singular value lies between zero
/// and about 1e-6 of the largest. Five halved first steps come before the eight, to lift singular values from 1e-6 to
/// 1e-3, and two after them bring the error to rounding.
/// Complexity: 15 steps of 3 · rows² · cols flops. Extra memory: three dense matrices, in double.
[[nodiscard]] inline std::optional<std::vector<double>> polar_express_factor(occupied_matrix const& a) {
  using matrix = Eigen::MatrixXd;
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
  if (!((gram * dense - dense).norm() <= 1e-10 * dense.norm())) return std::nullopt;
  std::vector<double> out(a.value.size());
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = x(a.row[k], a.col[k]);
  return out;
}

}  // namespace sara::detail
