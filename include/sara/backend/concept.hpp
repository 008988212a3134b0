// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include <sara/backend/convolution.hpp>
#include <sara/backend/order.hpp>
#include <sara/backend/positions.hpp>
#include <sara/host_device.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

namespace detail {
struct score_probe {
  double operator()(auto w, std::int64_t) const { return static_cast<double>(w); }
};
struct value_probe {
  double operator()(std::int64_t, std::int64_t) const { return 0; }
};
struct bits_probe {
  std::uint64_t operator()(std::int64_t, std::int64_t) const { return 0; }
};
}  // namespace detail

/// Singular values up to this fraction of the largest count as zero, whatever the engine.
inline constexpr double zero_singular_value = 1e-10;

/// The exact engine of polar_factors: a singular value decomposition, truncated at zero_singular_value.
struct exact_svd {};
/// Rational iterations on the Gram matrix of the shorter side, evaluated at M only, within 1e-4 of the exact factor.
struct qdwh {};
/// Odd polynomials of matrix products alone (Polar Express), within 1e-4 of the exact factor.
struct polar_express {};
/// The fastest of them for a matrix's shape, within 1e-4 of the exact factor: ‖g - g_exact‖ <= 1e-4 ‖g_exact‖ over M.
/// A backend that cannot wait (cuda::device) keeps that bound for singular values above 1e-7 of the largest.
struct automatic_polar {};
/// An engine chosen at run time. A backend provides polar_factors for each; one that has no such iteration may compute
/// its factor in another way that keeps the bound.
using polar_engine = std::variant<automatic_polar, exact_svd, qdwh, polar_express>;

/// P ⊙ M as compact values, and where its gradient and its loss are added: all in the backend's memory, [count] each,
/// the loss one double. No two matrices of a call share a gradient or a loss.
template <Positions P, Real R>
struct sparse_matrix {
  P positions;
  R const* values;
  R* gradient;
  double* loss;
};
template <class P, class R>
sparse_matrix(P, R const*, R*, double*) -> sparse_matrix<P, R>;

/// Where memory is, and who computes. A backend is a cheap value (a handle to threads, or to a stream) and every
/// policy of the library runs over it. Pointers are to the backend's memory, and so are the tensors that it accepts.
/// Columns are float or double.
///
/// - `where`: the memory whose tensors it accepts.
/// - `buffer<T>`, `allocate<T>(n)`: owns n zeroed elements; movable; `data()`, `size()`. It may be destroyed while work
///   that uses it is under way: its memory is not reused before that work has ended.
/// - `upload(from, to)`, `download(from, to)`: copy between a host span and the backend's memory. The host span may be
///   reused when upload returns; it is filled when download returns.
/// - `for_each(jobs)`: f(slot, position) for every position of every job, each once, in any order.
/// - `reduce(jobs, sum)`: the same, and adds what f returns to *sum in the backend's memory: a double, a std::uint64_t
///   (modulo 2^64) or a struct of such sums with + and +=; the same bits every time. An f may write, as that of an
///   optimiser step does: each once, here too.
/// - `compact(scored, cut)`: the positions of a tensor's entries below the cut, ascending.
/// - `order_statistic(scored, rank)`: the cut that selects exactly `rank` entries over all tensors, or all finite
///   ones if these are fewer.
/// - `sampling_plan`, `plan_sampling(positions)`: whatever the next two want to know of positions beforehand; movable,
///   default-constructible, `bytes()`. Made once, it serves as long as the positions do.
/// - `sampled_product(dy, x, positions, plan, out)`: out[j] += Σ_b dy[b, row_j] · x[b, col_j]; dYᵀX never exists (eq.
/// 7).
/// - `sampled_convolution(shape, dy, x, positions, plan, out)`: the same for a convolution's weight.
/// - `sampled_rows(dy, index, positions, out)`: out[j] += Σ_t [index_t = row_j] dy[t, col_j], for an embedding's
/// weight.
/// - `polar_factors(engine, matrices, weight)`: for each matrix A with `values` at M, adds weight · ‖A‖_* to *loss and
/// weight · (U_r V_rᵀ)[M] to `gradient` (eq. 4 and 5). All in one call, so that they may run side by side.
/// - `synchronize()`: all work handed over has ended.
///
/// `download`, `compact`, `order_statistic` and `synchronize` wait; `upload`, `plan_sampling`, `sampled_rows` and
/// `polar_factors(exact_svd)` may. No other primitive does, so that a training step can be captured in a graph once its
/// plans are made. Work runs in the order in which it was handed over. The same input gives the same bits on one
/// backend, for any number of threads. How the host, a CUDA device and an autograd framework provide each
/// primitive: docs/backend.md.
template <class B>
concept TensorBackend = std::copy_constructible<B> &&
    requires(B const b, std::int64_t n, const_tensor_view view, float* column, double* sum, all_positions positions,
             std::span<float const> host_in, std::span<float> host_out,
             std::span<sparse_job<all_positions, detail::value_probe> const> jobs,
             std::span<sparse_job<all_positions, detail::bits_probe> const> bit_jobs, std::uint64_t* bits,
             std::span<scored_tensor<detail::score_probe> const> scored, conv2d_shape convolution,
             std::span<std::int64_t const> index, std::span<sparse_matrix<all_positions, float> const> matrices) {
  { B::where } -> std::convertible_to<memory>;
  { b.template allocate<float>(n) } -> std::same_as<typename B::template buffer<float>>;
  { b.template allocate<float>(n).data() } -> std::same_as<float*>;
  b.upload(host_in, column);
  b.download(column, host_out);
  b.for_each(jobs);
  b.reduce(jobs, sum);
  { b.compact(scored[0], key_cut{}) } -> std::same_as<compaction<typename B::template buffer<std::int64_t>>>;
  { b.order_statistic(scored, n) } -> std::same_as<key_cut>;
  { b.plan_sampling(positions) } -> std::same_as<typename B::sampling_plan>;
  { b.plan_sampling(positions).bytes() } -> std::same_as<std::int64_t>;
  b.sampled_product(view, view, positions, typename B::sampling_plan{}, column);
  b.sampled_convolution(convolution, view, view, positions, typename B::sampling_plan{}, column);
  b.sampled_rows(view, index, positions, column);
  b.polar_factors(exact_svd{}, matrices, 1.0);
  b.polar_factors(qdwh{}, matrices, 1.0);
  b.polar_factors(polar_express{}, matrices, 1.0);
  b.polar_factors(automatic_polar{}, matrices, 1.0);
  b.synchronize();
};

/// @throws memory_error  unless the tensor is in the backend's memory
template <TensorBackend B, class Byte>
void require_memory(B const&, char const* what, basic_tensor_view<Byte> const& tensor) {
  detail::require<memory_error>(tensor.where() == B::where, what, ": expected a tensor in ", B::where, ", got one in ",
                                tensor.where());
}

namespace detail {
template <class T>
struct set_zero {
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = T{}; }
};
}  // namespace detail

/// One job.
template <TensorBackend B, Positions P, class F>
void for_each(B const& backend, P positions, F f) {
  sparse_job<P, F> const job{positions, f};
  backend.for_each(std::span<sparse_job<P, F> const>{&job, 1});
}

/// to[0 … count - 1] = 0.
template <TensorBackend B, class T>
void set_zero(B const& backend, T* to, std::int64_t count) {
  for_each(backend, all_positions{count}, detail::set_zero<T>{to});
}

/// *sum += Σ f(slot, position), of one job.
template <TensorBackend B, Positions P, class F, class Sum>
void reduce(B const& backend, P positions, F f, Sum* sum) {
  sparse_job<P, F> const job{positions, f};
  backend.reduce(std::span<sparse_job<P, F> const>{&job, 1}, sum);
}

}  // namespace sara
