// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <sara/error.hpp>

namespace sara::torch {

namespace detail {

struct mapping_function : ::torch::autograd::Function<mapping_function> {
  static at::Tensor forward(::torch::autograd::AutogradContext* context, at::Tensor const& weight,
                            at::Tensor const& values, at::Tensor const& positions) {
    context->save_for_backward({positions});
    context->saved_data["weight"] = weight.requires_grad();
    context->saved_data["type"] = static_cast<std::int64_t>(values.scalar_type());
    auto out = weight.clone(at::MemoryFormat::Contiguous);
    out.view({-1}).index_copy_(0, positions, values.to(weight.scalar_type()));
    return out;
  }

  static ::torch::autograd::variable_list backward(::torch::autograd::AutogradContext* context,
                                                   ::torch::autograd::variable_list const& gradients) {
    ::torch::autograd::variable_list out(3);
    auto const& dy = gradients.at(0);
    if (!dy.defined()) return out;
    auto const positions = context->get_saved_variables().at(0);
    auto const flat = dy.reshape({-1});
    if (context->saved_data["weight"].toBool()) out[0] = flat.index_fill(0, positions, 0).reshape(dy.sizes());
    out[1] = flat.index_select(0, positions).to(static_cast<at::ScalarType>(context->saved_data["type"].toInt()));
    return out;
  }
};

}  // namespace detail

/// The weight with `values` at `positions`, everything else unchanged: UM(P, p, M), for those who build their own.
/// Its gradient goes to the values, ∇p = ∇P[M], and to the rest of the weight if that requires one.  (SaRA, eq. 6, 7)
///
///     auto y = torch::linear(x, sara::torch::unstructural_mapping(weight, values, positions));
///
/// @param weight     any extents, any strides
/// @param values     [count], of any floating-point type; rounded to the weight's
/// @param positions  [count] int64, row-major, each once, on the weight's device
/// @return a new tensor of the weight's extents and type, dense row-major
/// @throws shape_error  unless there is one value a position
/// @throws dtype_error  for positions of another type
/// @throws c10::Error   for a position outside the weight
/// Extra memory: the result, and in the backward pass its dense gradient, until the layer's backward has ended; the
/// modules of modules.hpp need neither. Example: tests/torch/unstructural_mapping.cpp
[[nodiscard]] inline at::Tensor unstructural_mapping(at::Tensor const& weight, at::Tensor const& values,
                                                     at::Tensor const& positions) {
  sara::detail::require<dtype_error>(positions.scalar_type() == at::kLong,
                                     "unstructural_mapping: expected positions of int64, got ",
                                     positions.scalar_type());
  sara::detail::require<shape_error>(positions.dim() == 1 && values.sizes() == positions.sizes(),
                                     "unstructural_mapping: expected values and positions of one dimension and equal "
                                     "length, got ",
                                     values.sizes(), " and ", positions.sizes());
  return detail::mapping_function::apply(weight, values, positions);
}

}  // namespace sara::torch
