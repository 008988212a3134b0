// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backend/host/polar/occupied_matrix.hpp>
#include <sara/backend/host/polar/symmetric.hpp>
#include <sara/backend/host/polar/zolotarev.hpp>
#include <sara/backend/thread_pool.hpp>

namespace sara::detail {

/// What the fast engines promise: ‖g - g_exact‖ <= polar_error · ‖g_exact‖ over the entries at M.
inline constexpr double polar_error = 1e-4;

/// M x, [n, Count], of a mirrored M. Complexity: 2 · n² · Count flops, in double whatever M's type is.
template <int Count, Real R>
[[nodiscard]] vectors<Count> times(thread_pool& pool, symmetric_matrix<R> const& mirrored, vectors<Count> const& x) {
  constexpr auto bytes = std::min(register_bytes, Count * sizeof(double));
  typedef double part __attribute__((vector_size(bytes)));  // NOLINT(modernize-use-using): as lanes_of
  constexpr auto parts = Count * sizeof(double) / bytes;
  auto const n = mirrored.size();
  vectors<Count> out(n, Count);
  pool.parallel_for(mirrored.blocks(), [&](std::int64_t block) {
    for (auto i = block * symmetric_block; i < std::min(n, (block + 1) * symmetric_block); ++i) {
      auto const* const from = mirrored.row(i);
      auto const add_term = [&](std::int64_t j, part * sums) __attribute__((always_inline)) {
        auto const factor = static_cast<double>(from[j]);
        SARA_UNROLL
        for (std::size_t k = 0; k < parts; ++k) {
          part v;
          std::memcpy(&v, x.data() + j * Count + k * Count / parts, sizeof v);
          sums[k] += factor * v;
        }
      };
      part even[parts] = {}, odd[parts] = {};
      std::int64_t j = 0;
      for (; j + 1 < n; j += 2) {
        add_term(j, even);
        add_term(j + 1, odd);
      }
      if (j < n) add_term(j, even);
      for (std::size_t k = 0; k < parts; ++k) even[k] += odd[k];
      std::memcpy(out.data() + i * Count, even, sizeof even);
    }
  });
  return out;
}

/// A polar factor as a product of symmetric matrices with the matrix itself, U = last · first · A / scale, where
/// `first` of size zero stands for the unit matrix.
template <Real R>
class rational_polar {
 public:
  rational_polar(thread_pool& pool, occupied_matrix const& a, double scale, symmetric_matrix<R> first,
                 symmetric_matrix<R> last)
      : pool_{&pool}, a_{&a}, scale_{scale}, first_{std::move(first)}, last_{std::move(last)} {
    last_.mirror();
  }

  /// U at the entries of A; no other entry of it is computed.
  /// Complexity: 4 · nnz · rows flops.
  [[nodiscard]] std::vector<double> at_entries() const {
    constexpr std::int64_t cols_per_task = 32;
    std::vector<double> out(a_->value.size());
    pool_->parallel_for(ceil_div(a_->cols, cols_per_task), [&](std::int64_t task) {
      Eigen::VectorXd sum(last_.pitch());  // in double: large terms cancel where singular values are small
      Eigen::Matrix<R, Eigen::Dynamic, 1> column(last_.pitch());
      for (auto c = task * cols_per_task; c < std::min(a_->cols, (task + 1) * cols_per_task); ++c) {
        auto const begin = a_->first_of_col[static_cast<std::size_t>(c)];
        auto const end = a_->first_of_col[static_cast<std::size_t>(c) + 1];
        sum.setZero();
        for (auto k = begin; k < end; ++k) {
          auto const value = a_->value[k] / scale_;
          if (has_first())
            sum += value * row(first_, a_->row[k]).transpose().template cast<double>();
          else
            sum[a_->row[k]] = value;
        }
        column = sum.template cast<R>();
        for (auto k = begin; k < end; ++k) out[k] = static_cast<double>(row(last_, a_->row[k]).dot(column));
      }
    });
    return out;
  }

  /// An estimate of ‖U - U_r V_rᵀ‖_F / √r by random probes, without an exact factor to compare with: U Uᵀ is to be a
  /// projection, and what it maps to zero must be what A maps to zero. Infinite where a singular value is neither
  /// resolved nor zero.
  /// Complexity: 16 · rows² flops a probe.
  [[nodiscard]] double estimated_error() const {
    probes const z = random_vectors<4>(a_->rows);
    probes const once = z - projected(z);
    probes const twice = once - projected(once);
    if (!(twice.norm() <= 1e-5 * z.norm())) {
      probes const lost = transposed_times(twice - projected(twice));
      if (!(a_->transposed_times(lost).norm() <= zero_singular_value * scale_ * lost.norm())) return HUGE_VAL;
    }
    auto const error = (once - twice).norm() / (z - twice).norm() / 2;
    if (twice.norm() <= 1e-5 * z.norm()) return error;
    // Beside a null space U Uᵀ can be a projection on a range that rounding has turned: it must keep the range of A.
    probes const kept = a_->times(random_vectors<4>(a_->cols));
    return std::max(error, (kept - projected(kept)).norm() / kept.norm() / 2);
  }

 private:
  [[nodiscard]] bool has_first() const noexcept { return first_.size() > 0; }
  static auto row(symmetric_matrix<R> const& m, std::int64_t i) {
    return Eigen::Map<Eigen::Matrix<R, 1, Eigen::Dynamic> const, Eigen::AlignedMax>{m.row(i), m.pitch()};
  }
  using probes = vectors<4>;
  [[nodiscard]] probes transposed_times(probes const& z) const {
    probes const x = times(*pool_, last_, z);
    return has_first() ? times(*pool_, first_, x) : x;
  }
  /// U Uᵀ z
  [[nodiscard]] probes projected(probes const& z) const {
    probes const across = a_->transposed_times(transposed_times(z));
    probes const x = a_->times(across) / (scale_ * scale_);
    return times(*pool_, last_, has_first() ? times(*pool_, first_, x) : x);
  }

  thread_pool* pool_;
  occupied_matrix const* a_;
  double scale_;
  symmetric_matrix<R> first_;
  symmetric_matrix<R> last_;
};

/// constant + Σ_j weight_j (y + shift_j)⁻¹, an inverse a term; nothing where y + shift_j is not positive definite.
template <Real R>
[[nodiscard]] std::optional<symmetric_matrix<R>> evaluate(thread_pool& pool, sign_approximation const& f,
                                                          symmetric_matrix<R> const& y) {
  symmetric_matrix<R> out{y.size()};
  for (std::int64_t i = 0; i < y.size(); ++i) out.row(i)[i] = static_cast<R>(f.constant);
  for (auto const& [shift, weight] : f.terms) {
    auto shifted = y;
    for (std::int64_t i = 0; i < y.size(); ++i) shifted.row(i)[i] += static_cast<R>(shift);
    auto const term = inverse<R>(pool, std::move(shifted));
    if (!term) return std::nullopt;
    for (std::int64_t i = 0; i < y.blocks(); ++i)
      for (std::int64_t j = 0; j <= i; ++j) out.block(i, j) += static_cast<R>(weight) * term->block(i, j);
  }
  return out;
}

/// The least singular value that is not zero, from a subspace of the largest eigenvalues of w = (A Aᵀ + shift)⁻¹: an
/// upper bound, close where the subspace has converged. Zero where it holds the null space only.
/// Complexity: 64 · rows² flops.
template <Real R>
[[nodiscard]] double smallest_singular_value(thread_pool& pool, occupied_matrix const& a,
                                             symmetric_matrix<R> const& mirrored, double zero) {
  constexpr int width = 8;
  constexpr int iterations = 4;
  if (a.rows <= width) return zero;
  auto const orthonormalise = [](vectors<width>& x) {
    for (int pass = 0; pass < 2; ++pass) {
      Eigen::LLT<Eigen::Matrix<double, width, width>> const factored{x.transpose() * x};
      factored.matrixU().template solveInPlace<Eigen::OnTheRight>(x);
    }
  };
  vectors<width> v = random_vectors<width>(a.rows);
  for (int k = 0; k < iterations; ++k) {
    v = times(pool, mirrored, v);
    orthonormalise(v);
  }
  vectors<width> const across = a.transposed_times(v);
  using projected = Eigen::Matrix<double, width, width>;
  Eigen::JacobiSVD<projected, Eigen::NoQRPreconditioner> const ritz{projected{across.transpose() * across}};
  auto const& squares = ritz.singularValues();  // descending, of a symmetric matrix its eigenvalues
  for (int i = width; i-- > 0;)
    if (squares[i] > zero * zero) return std::sqrt(squares[i]);
  return 0;
}

/// U_r V_rᵀ through inverses of the shifted Gram matrix of the shorter side.
template <Real R>
[[nodiscard]] std::optional<rational_polar<R>> rational_polar_factor(thread_pool& pool, occupied_matrix const& a) {
  auto const scale = 1.04 * largest_singular_value(a);
  auto g = gram(pool, a, 1 / (scale * scale));
  auto const m = static_cast<double>(a.rows);
  auto const convert = [&] {
    symmetric_matrix<R> out{g.size()};
    for (std::int64_t i = 0; i < g.blocks(); ++i)
      for (std::int64_t j = 0; j <= i; ++j) out.block(i, j) = g.block(i, j).template cast<R>();
    return out;
  };
  // The edge of the spectrum of a random matrix; of a square one, a fraction of the mean distance.
  auto lowest = std::max(0.7 * (1 - std::sqrt(m / static_cast<double>(a.cols))), 1 / (8 * m));
  auto const final_step = [&](double from) {
    auto f = zolotarev(from, zolotarev_terms(from, polar_error / 2));
    f.scale(2 / (1 + f.image));
    return f;
  };
  constexpr double well_conditioned = 0.06;
  if (lowest >= well_conditioned) {
    if (auto last = evaluate(pool, final_step(lowest), convert())) {
      rational_polar<R> out{pool, a, scale, symmetric_matrix<R>{0}, std::move(*last)};
      if (out.estimated_error() <= polar_error / 2) return out;
    }
    lowest = 1 / (8 * m);
  }

  std::optional<symmetric_matrix<R>> first;
  sign_approximation step;
  double image = 0;
  for (int attempt = 0;; ++attempt) {
    if (lowest < 1e-7) return std::nullopt;
    step = zolotarev(lowest, 1);
    auto shifted = g;
    for (std::int64_t i = 0; i < g.size(); ++i) shifted.row(i)[i] += step.terms[0].shift;
    first = inverse<R>(pool, std::move(shifted));
    if (!first) return std::nullopt;
    first->mirror();
    auto const smallest = smallest_singular_value(pool, a, *first, 1e-9 * scale) / scale / 1.2;
    image = step.image;
    if (smallest < zero_singular_value || smallest >= lowest) break;
    image = step(smallest);
    if (smallest >= lowest / 4 || attempt > 0) break;
    lowest = smallest / 1.5;
  }
  // Y = X₁ X₁ᵀ for X₁ = (β + γ W) A with W = (G + s)⁻¹, from G W = 1 - s W.
  auto y = square(pool, *first);
  auto const [shift, weight] = step.terms[0];
  auto const constant = step.constant;
  auto const r = [](double x) { return static_cast<R>(x); };
  for (std::int64_t i = 0; i < g.blocks(); ++i)
    for (std::int64_t j = 0; j <= i; ++j) {
      auto to = y.block(i, j);
      auto w = first->block(i, j);
      to = r(constant * constant) * g.block(i, j).template cast<R>() +
           r(weight * weight - 2 * constant * weight * shift) * w - r(weight * weight * shift) * to;
    }
  for (std::int64_t i = 0; i < g.size(); ++i) y.row(i)[i] += r(2 * constant * weight);
  for (std::int64_t i = 0; i < g.size(); ++i) {
    first->row(i)[i] += r(constant / weight);
    Eigen::Map<Eigen::Matrix<R, Eigen::Dynamic, 1>, Eigen::AlignedMax>{first->row(i), g.size()} *= r(weight);
  }
  auto last = evaluate(pool, final_step(image), y);
  if (!last) return std::nullopt;
  rational_polar<R> out{pool, a, scale, std::move(*first), std::move(*last)};
  if (!(out.estimated_error() <= polar_error / 2)) return std::nullopt;
  return out;
}

}  // namespace sara::detail
