// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/backprop/ones.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

namespace detail {

/// Number of rows of [..., channels].
[[nodiscard]] inline std::int64_t leading(extents const& shape) {
  std::int64_t n = 1;
  for (int d = 0; d + 1 < shape.rank(); ++d) n *= shape[d];
  return n;
}
[[nodiscard]] inline std::int64_t trailing(extents const& shape) {
  return shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
}

}  // namespace detail

/// gradient[j] += Σ_b dY[b, row_j] · X[b, col_j]: the gradient of y = x Wᵀ at the selected entries of W only.
/// dW = dYᵀ X never exists.  (SaRA, eq. 7)
///
/// @param dy         gradient of the output, [..., out], any dtype
/// @param x          input, [..., in], as many rows in its leading dimensions, any dtype
/// @param positions  in W, [out, in]
/// @param gradient   [count], float32 or float64; products and sums are in that type
/// @throws shape_error  unless extents fit, where leading dimensions are not equally spaced in memory, or for the plan
/// of positions of another number or shape
/// @throws memory_error
/// @param plan       backend.plan_sampling(positions), for those who keep it from step to step; made anew without it
/// Complexity: 2 · count · batch flops. Workspace: see the backend's sampled_product. Does not synchronise;
/// without a plan it makes one, which may.
/// Example: tests/backprop/linear.cpp
template <TensorBackend Backend, Positions P, Real R>
void accumulate_linear(Backend const& backend, const_tensor_view const& dy, const_tensor_view const& x, P positions,
                       typename Backend::sampling_plan const& plan, R* gradient) {
  auto const shape = positions.shape();
  require_memory(backend, "linear dY", dy);
  require_memory(backend, "linear X", x);
  detail::require<shape_error>(dy.rank() >= 1 && x.rank() >= 1 && detail::trailing(dy.shape()) == shape.rows &&
                                   detail::trailing(x.shape()) == shape.cols &&
                                   detail::leading(dy.shape()) == detail::leading(x.shape()),
                               "linear: expected dY [..., ", shape.rows, "] and X [..., ", shape.cols,
                               "] of as many rows, got ", dy.shape(), " and ", x.shape());
  backend.sampled_product(dy, x, positions, plan, gradient);
}

template <TensorBackend Backend, Positions P, Real R>
void accumulate_linear(Backend const& backend, const_tensor_view const& dy, const_tensor_view const& x, P positions,
                       R* gradient) {
  accumulate_linear(backend, dy, x, positions, backend.plan_sampling(positions), gradient);
}

/// gradient[j] += Σ_b dY[b, position_j]: the gradient of a Linear layer's bias at its selected entries.
///
/// @param dy         gradient of the output, [..., out], any dtype
/// @param positions  in the bias, [out]
/// @param gradient   [count]
/// @throws shape_error, memory_error  as accumulate_linear
/// Complexity: 2 · count · batch flops, and the plan of the positions, made anew.
template <TensorBackend Backend, Positions P, Real R>
void accumulate_linear_bias(Backend const& backend, const_tensor_view const& dy, P positions, R* gradient) {
  detail::ones<Backend> const one{backend, dy.type()};
  accumulate_linear(backend, dy, one.view({detail::leading(dy.shape()), 1}), positions, gradient);
}

}  // namespace sara
