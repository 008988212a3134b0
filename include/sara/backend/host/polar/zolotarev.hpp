// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

namespace sara::detail {

/// x · (constant + Σ_j weight_j / (x² + shift_j)): the best odd rational approximation of sign(x), of degree
/// 2 · terms + 1, on lowest <= |x| <= 1 (Zolotarev 1877; for the polar factor: Nakatsukasa and Freund 2016, of which
/// one term is the step of QDWH). It maps [lowest, 1] into [image, 1], and 0 to 0.
struct sign_approximation {
  struct term {
    double shift, weight;
  };
  double constant = 1;
  std::vector<term> terms;
  double image = 1;  ///< its least value on [lowest, 1]; the largest is 1

  [[nodiscard]] double operator()(double x) const {
    double sum = constant;
    for (auto const& [shift, weight] : terms) sum += weight / (x * x + shift);
    return x * sum;
  }
  void scale(double factor) {
    constant *= factor;
    for (auto& t : terms) t.weight *= factor;
  }
};

/// (sn / cn)² of u for the complementary modulus k', 0 < k' < 1, by the descending Landen transformation.
[[nodiscard]] inline double squared_jacobi_sc(double u, double complementary) {
  constexpr int most = 16;
  double mean[most];
  double geometric[most];
  double a = 1;
  double g = complementary;
  int last = 0;
  for (;; ++last) {
    mean[last] = a;
    geometric[last] = g;
    if (last + 1 == most || std::abs(a - g) <= 1e-15 * a) break;
    auto const next = (a + g) / 2;
    g = std::sqrt(a * g);
    a = next;
  }
  // tan of the amplitude: tan φ_n = tan(a u) at the last level, then back up.
  auto phase = std::ldexp(mean[last], last) * u;
  for (int n = last; n > 0; --n) {
    auto const difference = (mean[n - 1] - geometric[n - 1]) / 2;
    phase = (phase + std::asin(difference / mean[n] * std::sin(phase))) / 2;
  }
  auto const tangent = std::tan(phase);
  return tangent * tangent;
}

/// The best approximation of sign(x) on [lowest, 1] with this many terms.
/// Complexity: O(terms²).
[[nodiscard]] inline sign_approximation zolotarev(double lowest, int terms) {
  // K of the modulus √(1 - lowest²), by the arithmetic-geometric mean
  double a = 1;
  for (double g = lowest; std::abs(a - g) > 1e-15 * a;) {
    auto const next = (a + g) / 2;
    g = std::sqrt(a * g);
    a = next;
  }
  auto const quarter_period = std::numbers::pi / (2 * a);
  std::vector<double> c;  // zeros at the even ones, poles at the odd ones
  for (int i = 1; i <= 2 * terms; ++i)
    c.push_back(lowest * lowest * squared_jacobi_sc(i * quarter_period / (2 * terms + 1), lowest));

  sign_approximation out;
  for (std::size_t j = 0; j < c.size(); j += 2) {
    double weight = 1;
    for (std::size_t k = 0; k < c.size(); k += 2) {
      weight *= c[k + 1] - c[j];
      if (k != j) weight /= c[k] - c[j];
    }
    out.terms.push_back({c[j], weight});
  }
  out.scale(1 / out(1));
  out.image = out(lowest);
  return out;
}

/// The fewest terms whose error on [lowest, 1], centred, is below `error`.
[[nodiscard]] inline int zolotarev_terms(double lowest, double error) {
  auto const degree = 2 * std::log(4 / error) * std::log(4 / lowest) / (std::numbers::pi * std::numbers::pi);
  return std::max(1, static_cast<int>(std::ceil((degree - 1) / 2)));
}

}  // namespace sara::detail
