// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include <sara/backend/counter_random.hpp>
#include <sara/backend/host/polar/symmetric.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::detail {

/// Some vectors side by side, so that one pass over a matrix serves them all.
template <int Count>
using vectors = Eigen::Matrix<double, Eigen::Dynamic, Count, Count == 1 ? Eigen::ColMajor : Eigen::RowMajor>;

/// P ⊙ M without its empty rows and columns, its shorter side as rows, scaled by a power of two to a largest entry in
/// [1/2, 1). An entry whose row or column holds zeros only is left out, since U_r V_rᵀ is zero there.
/// Entries are in double, column by column. Extra memory: about 32 bytes an entry.
struct occupied_matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  int exponent = 0;  ///< the matrix is this one times 2^exponent
  bool is_finite = true;
  std::vector<double> value;
  std::vector<std::int32_t> row, col;
  std::vector<std::int64_t> slot;
  std::vector<std::size_t> first_of_col{0};  ///< [cols + 1], into the entries
  std::vector<std::size_t> first_of_row{0};  ///< [rows + 1], into by_row
  std::vector<std::size_t> by_row;           ///< numbers of entries by row, then column

  /// Aᵀ x, [cols, Count]
  template <int Count>
  [[nodiscard]] vectors<Count> transposed_times(vectors<Count> const& x) const {
    vectors<Count> out = vectors<Count>::Zero(cols, x.cols());
    for (std::size_t k = 0; k < value.size(); ++k) out.row(col[k]) += value[k] * x.row(row[k]);
    return out;
  }
  /// A y, [rows, Count]
  template <int Count>
  [[nodiscard]] vectors<Count> times(vectors<Count> const& y) const {
    vectors<Count> out = vectors<Count>::Zero(rows, y.cols());
    for (std::size_t k = 0; k < value.size(); ++k) out.row(row[k]) += value[k] * y.row(col[k]);
    return out;
  }
  [[nodiscard]] double norm() const {
    return Eigen::Map<Eigen::VectorXd const>{value.data(), std::ssize(value)}.norm();
  }
};

/// Fixed pseudo-random numbers in [-1, 1), [n, Count].
template <int Count>
[[nodiscard]] vectors<Count> random_vectors(std::int64_t n) {
  vectors<Count> out(n, Count);
  for (std::int64_t i = 0; i < out.size(); ++i)
    out.data()[i] = static_cast<double>(counter_bits(0, 0, static_cast<std::uint64_t>(i)) >> 11) * 0x1p-52 - 1;
  return out;
}

template <Positions P, Real R>
[[nodiscard]] occupied_matrix occupied(P positions, R const* values) {
  auto const shape = positions.shape();
  auto const index = [](auto i) { return static_cast<std::size_t>(i); };
  std::vector<std::int32_t> row_of(index(shape.rows));
  std::vector<std::int32_t> col_of(index(shape.cols));
  occupied_matrix out;
  double largest = 0;
  positions.for_each(0, positions.count(), [&](std::int64_t slot, std::int64_t position) {
    auto const value = static_cast<double>(values[slot]);
    if (!std::isfinite(value)) out.is_finite = false;
    if (value == 0) return;
    largest = std::max(largest, std::abs(value));
    row_of[index(position / shape.cols)] = 1;
    col_of[index(position % shape.cols)] = 1;
  });
  if (largest == 0 || !out.is_finite) return out;

  auto const number = [](std::vector<std::int32_t>& used) {  // 1, 2, 3 … for those in use
    std::int32_t next = 0;
    for (auto& u : used) u = u ? ++next : 0;
    return std::int64_t{next};
  };
  out.rows = number(row_of);
  out.cols = number(col_of);
  bool const is_tall = out.rows > out.cols;
  if (is_tall) std::swap(out.rows, out.cols);
  std::frexp(largest, &out.exponent);

  out.first_of_col.resize(index(out.cols) + 1);
  out.first_of_row.resize(index(out.rows) + 1);
  auto const each = [&](auto&& f) {
    positions.for_each(0, positions.count(), [&](std::int64_t slot, std::int64_t position) {
      auto const row = row_of[index(position / shape.cols)] - 1;
      auto const col = col_of[index(position % shape.cols)] - 1;
      if (row < 0 || col < 0) return;
      is_tall ? f(slot, col, row) : f(slot, row, col);
    });
  };
  each([&](std::int64_t, std::int32_t row, std::int32_t col) {
    ++out.first_of_col[index(col) + 1];
    ++out.first_of_row[index(row) + 1];
  });
  std::partial_sum(out.first_of_col.begin(), out.first_of_col.end(), out.first_of_col.begin());
  std::partial_sum(out.first_of_row.begin(), out.first_of_row.end(), out.first_of_row.begin());
  auto const count = out.first_of_row.back();
  out.value.resize(count);
  out.row.resize(count);
  out.col.resize(count);
  out.slot.resize(count);
  out.by_row.resize(count);
  // Two counting sorts: positions ascend, so entries of one column or row stay in order.
  auto next = out.first_of_col;
  each([&](std::int64_t slot, std::int32_t row, std::int32_t col) {
    auto const k = next[index(col)]++;
    out.value[k] = std::ldexp(static_cast<double>(values[slot]), -out.exponent);
    out.row[k] = row;
    out.col[k] = col;
    out.slot[k] = slot;
  });
  next = out.first_of_row;
  for (std::size_t k = 0; k < count; ++k) out.by_row[next[index(out.row[k])]++] = k;
  return out;
}

/// The largest singular value by a few steps of Lanczos, a few per cent too small at most.
/// Complexity: 4 · nnz · steps flops.
[[nodiscard]] inline double largest_singular_value(occupied_matrix const& a) {
  constexpr int steps = 10;
  Eigen::Vector<double, steps> diagonal = Eigen::Vector<double, steps>::Zero();
  Eigen::Vector<double, steps - 1> beside = Eigen::Vector<double, steps - 1>::Zero();
  vectors<1> now = random_vectors<1>(a.rows).normalized();
  vectors<1> before = vectors<1>::Zero(a.rows);
  for (int k = 0; k < steps; ++k) {
    vectors<1> const across = a.transposed_times(now);
    vectors<1> next = a.times(across);
    diagonal[k] = across.squaredNorm();
    next -= diagonal[k] * now;
    if (k > 0) next -= beside[k - 1] * before;
    auto const length = next.norm();
    if (k + 1 == steps || length <= 1e-12 * diagonal[0]) break;
    beside[k] = length;
    before = now;
    now = next / length;
  }
  Eigen::SelfAdjointEigenSolver<Eigen::Matrix<double, steps, steps>> tridiagonal;
  tridiagonal.computeFromTridiagonal(diagonal, beside, Eigen::EigenvaluesOnly);
  return std::sqrt(tridiagonal.eigenvalues().maxCoeff());
}

/// scale · A Aᵀ, summed in double: nnz · (entries of a column) / 2 additions, row by row.
[[nodiscard]] inline symmetric_matrix<double> gram(thread_pool& pool, occupied_matrix const& a, double scale) {
  symmetric_matrix<double> out{a.rows};
  each_block_row(pool, out.blocks(), [&](std::int64_t block) {
    for (auto i = block * symmetric_block; i < std::min(a.rows, (block + 1) * symmetric_block); ++i) {
      auto* const to = out.row(i);
      for (auto n = a.first_of_row[static_cast<std::size_t>(i)]; n < a.first_of_row[static_cast<std::size_t>(i) + 1];
           ++n) {
        auto const own = a.by_row[n];
        auto const factor = scale * a.value[own];
        for (auto k = a.first_of_col[static_cast<std::size_t>(a.col[own])]; k <= own; ++k)
          to[a.row[k]] += factor * a.value[k];
      }
    }
  });
  return out;
}

}  // namespace sara::detail
