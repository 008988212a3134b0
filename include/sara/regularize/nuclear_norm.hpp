// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <variant>

#include <sara/backend/counter_random.hpp>
#include <sara/error.hpp>
#include <sara/regularize/concept.hpp>

namespace sara {

/// Which matrices a step regularises: all, one after the other, or one at random (as the published code does).
enum class turn : std::uint8_t { every, round_robin, one_at_random };

/// The paper's low-rank loss: weight · Σ ‖P ⊙ M‖_* over the matrices of a model.  (SaRA, eq. 4 and 5)
///
/// Its subgradient is weight · (U_r V_rᵀ)[M], over the non-zero singular values only; nothing dense leaves the
/// backend. A weight of two or more dimensions counts as [out, the rest]: convolutions are [out, in · kh · kw].
/// With one matrix a step the loss is of that matrix alone, not scaled up to the sum.
/// Complexity: one polar factor a matrix and step, by the engine; all but exact_svd are within 1e-4. Example:
/// tests/regularize/nuclear_norm.cpp
struct nuclear_norm {
  double weight = 5e-4;       ///< λ; 5e-4 in the published command line, 5e-3 in the paper
  std::int64_t min_side = 2;  ///< matrices whose smaller side is below this are left alone
  turn matrices = turn::every;
  std::uint64_t seed = 0;  ///< of turn::one_at_random
  polar_engine engine{};   ///< automatic_polar, exact_svd, qdwh or polar_express

  [[nodiscard]] bool applies_to(extents const& shape) const {
    detail::require<value_error>(weight >= 0 && std::isfinite(weight),
                                 "nuclear_norm: expected a finite weight of at least 0, got ", weight);
    auto const m = matrix_shape::of(shape);
    return shape.rank() >= 2 && std::min(m.rows, m.cols) >= min_side;
  }

  [[nodiscard]] matrix_run at(std::int64_t step, std::int64_t count) const {
    if (count == 0 || matrices == turn::every) return {0, count};
    if (matrices == turn::round_robin) return {step % count, 1};
    auto const bits = counter_bits(seed, stream_of("nuclear_norm"), static_cast<std::uint64_t>(step));
    return {static_cast<std::int64_t>(bits % static_cast<std::uint64_t>(count)), 1};
  }

  template <TensorBackend Backend, Positions P, Real R>
  void add(Backend const& backend, std::span<sparse_matrix<P, R> const> turns) const {
    std::visit([&](auto e) { backend.polar_factors(e, turns, weight); }, engine);
  }
};

/// No low-rank loss, an ablation of the paper (Table 2).
struct no_regularizer {
  [[nodiscard]] bool applies_to(extents const&) const noexcept { return false; }
  [[nodiscard]] matrix_run at(std::int64_t, std::int64_t) const noexcept { return {}; }
  template <TensorBackend Backend, Positions P, Real R>
  void add(Backend const&, std::span<sparse_matrix<P, R> const>) const noexcept {}
};

}  // namespace sara
