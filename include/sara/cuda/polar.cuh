// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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

/// dense[at position] = values[slot]
template <Real R, Real C>
struct spread_values {
  short_side_first layout;
  R const* values;
  C* dense;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    dense[layout.at(position)] = static_cast<C>(values[slot]);
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

/// Entries of one partial sum; fixed, so that sums are the same bits every time.
inline constexpr std::int64_t chunk_entries = 4096;

/// parts[k] = Σ x² of chunk k, where each matrix has chunks of its own.
template <Real C>
struct square_chunk {
  C const* x;
  std::int64_t size, chunks;  // of a matrix
  double* parts;
  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t k, Lanes lanes) const {
    auto const first = k % chunks * chunk_entries;
    auto const last = first + chunk_entries < size ? first + chunk_entries : size;
    C const* const matrix = x + k / chunks * size;
    double sum = 0;
    for (auto i = first + lanes.id; i < last; i += Lanes::count)
      sum += static_cast<double>(matrix[i]) * static_cast<double>(matrix[i]);
    sum = lanes.sum(sum);
    if (lanes.id == 0) parts[k] = sum;
  }
};

/// roots[m] = (Σ of the parts of matrix m)^(1 / degree)
struct root_of_chunks {
  double const* parts;
  std::int64_t chunks;
  double degree;
  double* roots;
  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t m, Lanes lanes) const {
    double sum = 0;
    for (auto k = static_cast<std::int64_t>(lanes.id); k < chunks; k += Lanes::count) sum += parts[m * chunks + k];
    sum = lanes.sum(sum);
    if (lanes.id == 0) roots[m] = std::pow(sum, 1 / degree);
  }
};

/// x[i] /= root of its matrix, where that is not zero.
template <Real C>
struct divide_by_root {
  C* x;
  std::int64_t size;  // of a matrix
  double const* roots;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const root = roots[i / size];
    if (root != 0) x[i] = static_cast<C>(static_cast<double>(x[i]) / root);
  }
};

/// to = a · x + b · y + c · I, for squares one after the other.
template <Real C>
struct combine_squares {
  C const *x, *y;
  C* to;
  C a, b, c;
  std::int64_t side;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const at = i % (side * side);
    to[i] = a * x[i] + b * y[i] + (at / side == at % side ? c : C{0});
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

/// Matrices of equal shape one after the other, dense in C, their shorter side as rows.
template <class Executor, Real C>
struct dense_matrices {
  std::int64_t count, rows, cols;
  typename Executor::template buffer<C> x;  // [count, rows, cols]

  [[nodiscard]] std::int64_t size() const { return rows * cols; }
  [[nodiscard]] std::int64_t entries() const { return count * size(); }
  [[nodiscard]] operand as_operand(bool transposed = false) const {
    return operand::of(x.data(), cols, transposed, size());
  }
  /// The products of each with what stands beside it, or of squares.
  [[nodiscard]] product_shape gram_shape() const { return {rows, rows, cols, count}; }
  [[nodiscard]] product_shape square_shape() const { return {rows, rows, rows, count}; }
  [[nodiscard]] product_shape left_product_shape() const { return {rows, cols, rows, count}; }
};

template <class Executor, Real C>
[[nodiscard]] operand squares(typename Executor::template buffer<C> const& x, std::int64_t side) {
  return operand::of(x.data(), side, false, side * side);
}

/// roots[m] = (Σ x² of matrix m)^(1 / degree). Extra memory: a double for 4,096 entries.
template <class Executor, Real C>
void root_of_squares(Executor const& machine, C const* x, std::int64_t count, std::int64_t size, double degree,
                     double* roots) {
  auto const chunks = (size + chunk_entries - 1) / chunk_entries;
  auto parts = machine.template scratch<double>(count * chunks);
  machine.call_each_by_lanes(count * chunks, square_chunk<C>{x, size, chunks, parts.data()});
  machine.call_each_by_lanes(count, root_of_chunks{parts.data(), chunks, degree, roots});
}

template <Real C, class Executor, class Matrix>
[[nodiscard]] dense_matrices<Executor, C> spread(Executor const& machine, std::span<Matrix const* const> matrices) {
  short_side_first const layout{matrices[0]->positions.shape()};
  dense_matrices<Executor, C> out{std::ssize(matrices), layout.rows(), layout.cols(), {}};
  out.x = machine.template scratch<C>(out.entries());
  machine.set_zero(out.x.data(), static_cast<std::size_t>(out.entries()) * sizeof(C));
  using value = std::remove_cvref_t<decltype(*matrices[0]->values)>;
  using job = sparse_job<std::remove_cvref_t<decltype(matrices[0]->positions)>, spread_values<value, C>>;
  std::vector<job> jobs;
  for (auto const* m : matrices)
    jobs.push_back({m->positions,
                    {short_side_first{m->positions.shape()}, m->values, out.x.data() + std::ssize(jobs) * out.size()}});
  machine.visit(std::span<job const>{jobs});
  return out;
}

/// Divides each by its Frobenius norm, then by a bound of its largest singular value: with G = A Aᵀ,
/// σ₁⁸ <= ‖G²‖_F² <= m σ₁⁸. The largest is between m^(-1/8) and 1 afterwards, whatever the scale of the values.
template <class Executor, Real C>
void scale(Executor const& machine, dense_matrices<Executor, C>& a) {
  auto const m = a.rows;
  auto roots = machine.template scratch<double>(a.count);
  auto gram = machine.template scratch<C>(a.count * m * m);
  auto square = machine.template scratch<C>(a.count * m * m);
  auto const g = squares<Executor, C>(gram, m);
  root_of_squares(machine, a.x.data(), a.count, a.size(), 2, roots.data());
  machine.call_each(a.entries(), divide_by_root<C>{a.x.data(), a.size(), roots.data()});
  machine.multiply(a.gram_shape(), a.as_operand(), a.as_operand(true), C{0}, gram.data(), m);
  machine.multiply(a.square_shape(), g, g, C{0}, square.data(), m);
  root_of_squares(machine, square.data(), a.count, m * m, 8, roots.data());
  machine.call_each(a.entries(), divide_by_root<C>{a.x.data(), a.size(), roots.data()});
}

/// Smallest singular value, of a scaled matrix, that the iterations bring to one; those below end between zero and one.
/// It is one of 1e-7 of the largest while m^(-1/8) is at least 0.3: up to a shorter side of 15,000.
inline constexpr double smallest_resolved = 3e-8;

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

/// A ← U_r V_rᵀ by QDWH with a Cholesky factorisation each step, in double.
/// 5 steps of about 4 m² n + m³/3 flops, m the shorter side. Extra memory: a dense matrix and two squares each.
template <class Executor>
void iterate(Executor const& machine, qdwh, dense_matrices<Executor, double>& a) {
  scale(machine, a);
  auto const m = a.rows;
  auto w = machine.template scratch<double>(a.count * m * m);
  auto solved = machine.template scratch<double>(a.entries());
  for (auto const& step : halley_steps()) {
    machine.multiply(a.gram_shape(), a.as_operand(), a.as_operand(true), 0.0, w.data(), m);
    machine.call_each(a.count * m * m, combine_squares<double>{w.data(), w.data(), w.data(), step.c, 0, 1, m});
    machine.call_each(a.entries(), copy_entries<double>{a.x.data(), solved.data()});
    machine.solve(w.data(), m, solved.data(), a.cols, a.count);
    auto const kept = step.b / step.c;
    machine.call_each(a.entries(), add_scaled<double>{solved.data(), a.x.data(), step.a - kept, kept});
  }
}

/// A ← U_r V_rᵀ by odd quintics of matrix products. Halved first steps come before the eight, to lift what they do not
/// reach, and two of the last after them.
/// A step takes 4 m² n + 2 m³ flops. Extra memory: a dense matrix and two squares each.
template <class Executor, Real C>
void iterate(Executor const& machine, polar_express, dense_matrices<Executor, C>& a) {
  using sara::detail::polar_express_steps;
  constexpr int lifts = std::is_same_v<C, double> ? 7 : 2;
  constexpr int polishes = 2;
  scale(machine, a);
  auto const m = a.rows;
  auto gram = machine.template scratch<C>(a.count * m * m);
  auto factor = machine.template scratch<C>(a.count * m * m);
  auto next = machine.template scratch<C>(a.entries());
  auto const g = squares<Executor, C>(gram, m);
  auto const step = [&](sara::detail::odd_quintic const& f, double times) {
    machine.multiply(a.gram_shape(), a.as_operand(), a.as_operand(true), C{0}, gram.data(), m);
    machine.multiply(a.square_shape(), g, g, C{0}, factor.data(), m);
    machine.call_each(a.count * m * m,
                      combine_squares<C>{factor.data(), gram.data(), factor.data(), static_cast<C>(times * f.c),
                                         static_cast<C>(times * f.b), static_cast<C>(times * f.a), m});
    machine.multiply(a.left_product_shape(), squares<Executor, C>(factor, m), a.as_operand(), C{0}, next.data(),
                     a.cols);
    std::swap(a.x, next);
  };
  for (int k = 0; k < lifts; ++k) step(polar_express_steps.front(), 0.5);
  for (auto const& f : polar_express_steps) step(f, 1);
  for (int k = 0; k < polishes; ++k) step(polar_express_steps.back(), 1);
}

/// A ← U_r V_rᵀ by decompositions in double, one after the other, truncated at zero_singular_value. Waits, as cuSOLVER
/// does.
template <class Executor>
void decompose(Executor const& machine, dense_matrices<Executor, double>& a) {
  auto sigma = machine.template scratch<double>(a.rows);
  auto v = machine.template scratch<double>(a.rows * a.rows);
  auto u = machine.template scratch<double>(a.size());
  for (std::int64_t i = 0; i < a.count; ++i) {
    auto* const matrix = a.x.data() + i * a.size();
    machine.decompose(matrix, a.rows, a.cols, sigma.data(), v.data(), u.data());
    machine.call_each(a.size(), drop_null_space{sigma.data(), zero_singular_value, a.cols, u.data()});
    machine.multiply({a.rows, a.cols, a.rows}, operand::of(v.data(), a.rows), operand::of(u.data(), a.cols), 0.0,
                     matrix, a.cols);
  }
}

/// Adds weight · (U_r V_rᵀ)[M] to the gradients and weight · ‖A‖_* to the losses: all that leaves an iteration.
template <class Executor, Real C, class Matrix>
void add_factors(Executor const& machine, dense_matrices<Executor, C> const& factors,
                 std::span<Matrix const* const> matrices, double weight) {
  C const* factor = factors.x.data();
  for (auto const* m : matrices) {
    using value = std::remove_cvref_t<decltype(*m->values)>;
    using job = sparse_job<std::remove_cvref_t<decltype(m->positions)>, add_factor<value, C>>;
    job const one{m->positions, {short_side_first{m->positions.shape()}, m->values, factor, weight, m->gradient}};
    machine.sum(std::span<job const>{&one, 1}, m->loss);
    factor += factors.size();
  }
}

/// Bytes of dense matrices that are iterated at a time, more only where one matrix has more.
inline constexpr std::int64_t batch_bytes = std::int64_t{256} << 20;

/// Matrices of equal shape share their iterations; those of another follow.
template <class Executor, class Engine, Positions P, Real R>
void polar_factors(Executor const& machine, Engine engine, std::span<sparse_matrix<P, R> const> matrices,
                   double weight) {
  using matrix = sparse_matrix<P, R>;
  std::vector<matrix const*> order;
  for (auto const& m : matrices)
    if (m.positions.count() > 0) order.push_back(&m);
  auto const shape_of = [](matrix const* m) {
    short_side_first const layout{m->positions.shape()};
    return std::pair{layout.rows(), layout.cols()};
  };
  std::stable_sort(order.begin(), order.end(), [&](auto const* a, auto const* b) { return shape_of(a) < shape_of(b); });
  for (auto first = order.begin(); first != order.end();) {
    auto const [rows, cols] = shape_of(*first);
    auto const most = std::max<std::int64_t>(1, batch_bytes / (rows * cols * std::int64_t{sizeof(double)}));
    auto last = first;
    while (last != order.end() && last - first < most && shape_of(*last) == shape_of(*first)) ++last;
    std::span<matrix const* const> const batch{&*first, static_cast<std::size_t>(last - first)};
    auto const run = [&]<Real C>(C, auto&& iteration) {
      auto a = spread<C>(machine, batch);
      iteration(a);
      add_factors(machine, a, batch, weight);
    };
    if constexpr (std::is_same_v<Engine, exact_svd>)
      run(0.0, [&](auto& a) { decompose(machine, a); });
    else if constexpr (std::is_same_v<Engine, polar_express>)
      machine.tf32() ? run(0.0f, [&](auto& a) { iterate(machine, engine, a); })
                     : run(0.0, [&](auto& a) { iterate(machine, engine, a); });
    else
      run(0.0, [&](auto& a) { iterate(machine, qdwh{}, a); });
    first = last;
  }
}

}  // namespace sara::cuda::detail
