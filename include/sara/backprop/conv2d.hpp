// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/backend/convolution.hpp>
#include <sara/backprop/ones.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// gradient[j] += the gradient of a two-dimensional convolution (cross-correlation, as in PyTorch) at the selected
/// entries of its weight only; the dense gradient never exists.  (SaRA, eq. 7)
///
/// @param weight     extents of the weight, [out, in / groups, kernel height, kernel width]
/// @param dy         gradient of the output, [batch, out, out height, out width], any dtype and strides
/// @param x          input, [batch, in, height, width], any dtype and strides
/// @param geometry   stride, padding, dilation, groups
/// @param positions  in the weight, row-major
/// @param gradient   [count], float32 or float64; products and sums are in that type
/// @throws shape_error  unless all extents belong to one convolution, or for the plan of positions of another number or
/// shape
/// @throws value_error  for a geometry outside its range
/// @throws memory_error
/// @param plan       backend.plan_sampling(positions), for those who keep it from step to step; made anew without it
/// Complexity: 2 · count · batch · out height · out width flops. Workspace: see the backend's sampled_convolution.
/// Does not synchronise; without a plan it makes one, which may. Example: tests/backprop/conv2d.cpp
template <TensorBackend Backend, Positions P, Real R>
void accumulate_conv2d(Backend const& backend, extents const& weight, const_tensor_view const& dy,
                       const_tensor_view const& x, conv2d_geometry const& geometry, P positions,
                       typename Backend::sampling_plan const& plan, R* gradient) {
  require_memory(backend, "conv2d dY", dy);
  require_memory(backend, "conv2d X", x);
  auto const shape = conv2d_shape::of(weight, dy.shape(), x.shape(), geometry);
  detail::require<shape_error>(shape.matrix() == positions.shape(), "conv2d: expected positions in a weight of ",
                               shape.matrix().rows, " x ", shape.matrix().cols, ", got ", positions.shape().rows, " x ",
                               positions.shape().cols);
  backend.sampled_convolution(shape, dy, x, positions, plan, gradient);
}

template <TensorBackend Backend, Positions P, Real R>
void accumulate_conv2d(Backend const& backend, extents const& weight, const_tensor_view const& dy,
                       const_tensor_view const& x, conv2d_geometry const& geometry, P positions, R* gradient) {
  accumulate_conv2d(backend, weight, dy, x, geometry, positions, backend.plan_sampling(positions), gradient);
}

/// gradient[j] += Σ dY[:, position_j, :, :]: the gradient of a convolution's bias at its selected entries.
///
/// @param dy         gradient of the output, [batch, out, height, width], any dtype and strides
/// @param positions  in the bias, [out]
/// @param gradient   [count]
/// @throws shape_error, memory_error
/// Complexity: 2 · count · batch · height · width flops, and the plan of the positions, made anew.
template <TensorBackend Backend, Positions P, Real R>
void accumulate_conv2d_bias(Backend const& backend, const_tensor_view const& dy, P positions, R* gradient) {
  detail::require<shape_error>(dy.rank() == 4, "conv2d bias: expected dY [batch, out, height, width], got ",
                               dy.shape());
  detail::ones<Backend> const one{backend, dy.type()};
  accumulate_conv2d(backend, {dy.shape()[1], 1, 1, 1}, dy, one.view({dy.shape()[0], 1, dy.shape()[2], dy.shape()[3]}),
                    {}, positions, gradient);
}

}  // namespace sara
