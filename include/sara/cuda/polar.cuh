// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backend/odd_quintic.hpp>
#include <sara/backend/positions.hpp>
#include <sara/cuda/matrix.hpp>

namespace sara::cuda::detail {

/// Where the entries of a matrix stand in a dense one whose rows are the shorter side.
struct short_side_first {
  matrix_shape shape;
  [[nodiscard]] SARA_HOST_DEVICE bool transposes() const { return shape.rows > shape.cols; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t rows() const { return transposes() ? shape.cols : shape.rows; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t cols() const { return transposes() ? shape.rows : shape.cols; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t at(std::int64_t position) const {
    return transposes() ? position % shape.cols * shape.rows + position / shape.cols : position;
  }
};

/// dense[at position] = values[slot] / √*squares, where the sum of squares is not zero; null for 1.
template <Real R, Real C>
struct spread_values {
  short_side_first layout;
  R const* values;
  double const* squares;
  C* dense;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    auto const value = static_cast<double>(values[slot]);
    dense[layout.at(position)] = static_cast<C>(squares && *squares != 0 ? value / std::sqrt(*squares) : value);
  }
};

/// gradient[slot] += weight · factor; returns weight · value · factor, whose sum is weight · ‖A‖_* = weight · ⟨A, U_r
/// V_rᵀ⟩.
template <Real R, Real C>
struct add_factor {
  short_side_first layout;
  R const* values;
  C const* factor;
  double weight;
  R* gradient;
  SARA_HOST_DEVICE double operator()(std::int64_t slot, std::int64_t position) const {
    auto const f = static_cast<double>(factor[layout.at(position)]);
    gradient[slot] += static_cast<R>(weight * f);
    return weight * static_cast<double>(values[slot]) * f;
  }
};

template <Real C>
struct square_entry {
  C const* data;
  [[nodiscard]] SARA_HOST_DEVICE double operator()(std::int64_t i, std::int64_t) const {
    return static_cast<double>(data[i]) * static_cast<double>(data[i]);
  }
};

/// x[i] /= *power^(1 / degree), where that is not zero.
template <Real C>
struct divide_by_root {
  C* x;
  double const* power;
  double degree;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const root = std::pow(*power, 1 / degree);
    if (root != 0) x[i] = static_cast<C>(static_cast<double>(x[i]) / root);
  }
};

/// to = a · x + b · y + c · I, square.
template <Real C>
struct combine_squares {
  C const *x, *y;
  C* to;
  C a, b, c;
  std::int64_t side;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    to[i] = a * x[i] + b * y[i] + (i / side == i % side ? c : C{0});
  }
};

template <Real C>
struct copy_entries {
  C const* from;
  C* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const { to[i] = from[i]; }
};

/// to = a · x + b · to
template <Real C>
struct add_scaled {
  C const* x;
  C* to;
  C a, b;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const { to[i] = a * x[i] + b * to[i]; }
};

/// Rows of u whose singular value counts as zero become zero.
struct drop_null_space {
  double const* sigma;
  double relative;  // to the largest
  std::int64_t cols;
  double* u;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    if (!(sigma[i / cols] > relative * sigma[0])) u[i] = 0;
  }
};

template <class Executor, Positions P, class F>
void visit_one(Executor const& machine, P positions, F const& f) {
  sparse_job<P, F> const job{positions, f};
  machine.visit(std::span<sparse_job<P, F> const>{&job, 1});
}
template <class Executor, Positions P, class F>
void sum_one(Executor const& machine, P positions, F const& f, double* sum) {
  sparse_job<P, F> const job{positions, f};
  machine.sum(std::span<sparse_job<P, F> const>{&job, 1}, sum);
}

/// P ⊙ M dense in C, its shorter side as rows.
template <class Executor, Real C>
struct dense_matrix {
  std::int64_t rows, cols;
  typename Executor::template buffer<C> x;

  [[nodiscard]] std::int64_t size() const { return rows * cols; }
  [[nodiscard]] operand as_operand(bool transposed = false) const { return operand::of(x.data(), cols, transposed); }
};

template <Real C, class Executor, Positions P, Real R>
[[nodiscard]] dense_matrix<Executor, C> spread(Executor const& machine, P positions, R const* values,
                                               double const* squares) {
  short_side_first const layout{positions.shape()};
  dense_matrix<Executor, C> out{layout.rows(), layout.cols(),
                                machine.template scratch<C>(positions.shape().size())};
  machine.set_zero(out.x.data(), static_cast<std::size_t>(out.size()) * sizeof(C));
  visit_one(machine, positions, spread_values<R, C>{layout, values, squares, out.x.data()});
  return out;
}

/// Spread and scaled by a bound of the largest singular value: with G = A Aᵀ, σ₁⁸ <= ‖G²‖_F² <= m σ₁⁸. All of it stays
/// on the machine, whatever the scale of the values.
template <Real C, class Executor, Positions P, Real R>
[[nodiscard]] dense_matrix<Executor, C> scaled(Executor const& machine, P positions, R const* values) {
  auto sums = machine.template scratch<double>(2);
  machine.set_zero(sums.data(), 2 * sizeof(double));
  sum_one(machine, all_positions{positions.count()}, square_entry<R>{values}, sums.data());
  auto out = spread<C>(machine, positions, values, sums.data());
  auto const m = out.rows;
  auto gram = machine.template scratch<C>(m * m);
  auto square = machine.template scratch<C>(m * m);
  machine.multiply({m, m, out.cols}, out.as_operand(), out.as_operand(true), C{0}, gram.data(), m);
  machine.multiply({m, m, m}, operand::of(gram.data(), m), operand::of(gram.data(), m, true), C{0}, square.data(), m);
  sum_one(machine, all_positions{m * m}, square_entry<C>{square.data()}, sums.data() + 1);
  machine.call_each(out.size(), divide_by_root<C>{out.x.data(), sums.data() + 1, 8});
  return out;
}

/// Smallest singular value, beside a largest of at most 1, that the iterations bring to one; those below end between
/// zero and one.
inline constexpr double smallest_resolved = 1e-7;

/// x ← b/c x + (a - b/c) (I + c x²)⁻¹ x: the best rational functions of that degree, one after the other.
struct halley_step {
  double a, b, c;
};

/// Dynamically weighted Halley steps from `smallest_resolved` to 1.  (Nakatsukasa, Bai, Gygi 2010)
[[nodiscard]] inline std::vector<halley_step> halley_steps() {
  std::vector<halley_step> out;
  for (double l = smallest_resolved; 1 - l > 1e-12;) {
    auto const squared = l * l;
    auto const d = std::cbrt(4 * (1 - squared) / (squared * squared));
    auto const root = std::sqrt(1 + d);
    auto const a = root + std::sqrt(8 - 4 * d + 8 * (2 - squared) / (squared * root)) / 2;
    auto const b = (a - 1) * (a - 1) / 4;
    out.push_back({a, b, a + b - 1});
    l = std::min(1.0, l * (a + b * squared) / (1 + out.back().c * squared));
  }
  return out;
}

/// U_r V_rᵀ by QDWH with a Cholesky factorisation each step, in double.
/// 6 steps of about 5 m² n + m³/3 flops, m the shorter side. Extra memory: two dense matrices and a square, in double.
template <class Executor, Positions P, Real R>
[[nodiscard]] auto factor_of(Executor const& machine, qdwh, P positions, R const* values) {
  auto a = scaled<double>(machine, positions, values);
  auto const m = a.rows;
  auto w = machine.template scratch<double>(m * m);
  auto solved = machine.template scratch<double>(a.size());
  for (auto const& step : halley_steps()) {
    machine.multiply({m, m, a.cols}, a.as_operand(), a.as_operand(true), 0.0, w.data(), m);
    machine.call_each(m * m, combine_squares<double>{w.data(), w.data(), w.data(), step.c, 0, 1, m});
    machine.call_each(a.size(), copy_entries<double>{a.x.data(), solved.data()});
    machine.solve(w.data(), m, solved.data(), a.cols);
    auto const kept = step.b / step.c;
    machine.call_each(a.size(), add_scaled<double>{solved.data(), a.x.data(), step.a - kept, kept});
  }
  return a;
}

/// U_r V_rᵀ by odd quintics of matrix products, in C. Halved first steps come before the eight, to lift what they do not
/// reach, and two of the last after them.
/// A step takes 4 m² n + 2 m³ flops. Extra memory: two dense matrices and two squares.
template <Real C, class Executor, Positions P, Real R>
[[nodiscard]] auto express_factor(Executor const& machine, P positions, R const* values, int lifts) {
  using sara::detail::polar_express_steps;
  auto a = scaled<C>(machine, positions, values);
  auto const m = a.rows;
  auto gram = machine.template scratch<C>(m * m);
  auto factor = machine.template scratch<C>(m * m);
  auto next = machine.template scratch<C>(a.size());
  auto const step = [&](sara::detail::odd_quintic const& f, double times) {
    auto const g = operand::of(gram.data(), m);
    machine.multiply({m, m, a.cols}, a.as_operand(), a.as_operand(true), C{0}, gram.data(), m);
    machine.multiply({m, m, m}, g, g, C{0}, factor.data(), m);
    machine.call_each(m * m, combine_squares<C>{factor.data(), gram.data(), factor.data(), static_cast<C>(times * f.c),
                                                static_cast<C>(times * f.b), static_cast<C>(times * f.a), m});
    machine.multiply({m, a.cols, m}, operand::of(factor.data(), m), a.as_operand(), C{0}, next.data(), a.cols);
    std::swap(a.x, next);
  };
  for (int k = 0; k < lifts; ++k) step(polar_express_steps.front(), 0.5);
  for (auto const& f : polar_express_steps) step(f, 1);
  for (int k = 0; k < 2; ++k) step(polar_express_steps.back(), 1);
  return a;
}

/// U_r V_rᵀ by a decomposition in double, truncated at the numerical rank of R. Waits, as cuSOLVER does.
template <class Executor, Positions P, Real R>
[[nodiscard]] auto factor_of(Executor const& machine, exact_svd, P positions, R const* values) {
  auto a = spread<double>(machine, positions, values, nullptr);
  auto sigma = machine.template scratch<double>(a.rows);
  auto v = machine.template scratch<double>(a.rows * a.rows);
  auto u = machine.template scratch<double>(a.size());
  machine.decompose(a.x.data(), a.rows, a.cols, sigma.data(), v.data(), u.data());
  auto const relative = static_cast<double>(a.cols) * static_cast<double>(std::numeric_limits<R>::epsilon());
  machine.call_each(a.size(), drop_null_space{sigma.data(), relative, a.cols, u.data()});
  machine.multiply({a.rows, a.cols, a.rows}, operand::of(v.data(), a.rows), operand::of(u.data(), a.cols), 0.0,
                   a.x.data(), a.cols);
  return a;
}

/// Adds weight · (U_r V_rᵀ)[M] to the gradient and weight · ‖A‖_* to *norm.
template <class Executor, class Engine, Positions P, Real R>
void polar_factor(Executor const& machine, Engine engine, P positions, R const* values, double weight, R* gradient,
                  double* norm) {
  if (positions.count() == 0) return;
  auto const add = [&]<Real C>(dense_matrix<Executor, C> const& factor) {
    sum_one(machine, positions,
            add_factor<R, C>{short_side_first{positions.shape()}, values, factor.x.data(), weight, gradient}, norm);
  };
  if constexpr (std::is_same_v<Engine, automatic_polar>) {
    add(factor_of(machine, qdwh{}, positions, values));
  } else if constexpr (std::is_same_v<Engine, polar_express>) {
    constexpr int lifts_in_double = 7, lifts_in_float = 2;
    if (machine.tf32())
      add(express_factor<float>(machine, positions, values, lifts_in_float));
    else
      add(express_factor<double>(machine, positions, values, lifts_in_double));
  } else {
    add(factor_of(machine, engine, positions, values));
  }
}

}  // namespace sara::cuda::detail
