// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/variable.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include <sara/backend/convolution.hpp>
#include <sara/error.hpp>
#include <sara/torch/gather_node.hpp>

/// Layers whose backward pass samples the weight's gradient at the entries that learn, so that the dense one never
/// exists (SaRA, eq. 7). Values and the input's gradient are libtorch's own. A weight that no sara optimizer trains
/// gets its dense gradient, as from libtorch's functions.
namespace sara::torch {

namespace detail {

using ::torch::autograd::AutogradContext;
using ::torch::autograd::variable_list;

template <class Bias>
Bias bias_of(at::Tensor (*)(at::Tensor const&, at::Tensor const&, Bias const&));
/// What a Function takes for a tensor that may be undefined: an optional of libtorch's own, or of the standard library
/// in later versions.
using maybe_tensor = decltype(bias_of(&at::linear));

[[nodiscard]] inline maybe_tensor if_defined(at::Tensor const& tensor) {
  return tensor.defined() ? maybe_tensor{tensor} : maybe_tensor{};
}

/// What the backward pass that runs wants of a weight's gradient.
struct wanted_gradient {
  bool dense = false;      // autograd itself does: no optimizer, or torch::autograd::grad of the weight
  std::size_t number = 0;  // of the weight, at its taker
  std::shared_ptr<gradient_taker> sampler = nullptr;  // takes samples

  [[nodiscard]] static wanted_gradient of(at::Tensor const& weight) {
    if (!weight.requires_grad()) return {};
    auto const node = gather_node::of(weight);
    auto taker = node ? node->taker() : nullptr;
    if (!taker || !::torch::autograd::impl::hooks(weight).empty()) return {true};  // hooks want to see it
    auto const* const only = ::torch::autograd::get_current_graph_task_exec_info();
    if (only != nullptr && !only->empty()) {  // a pass for some tensors alone: others must not change
      auto const found = only->find(node.get());
      if (found == only->end() || !found->second.should_execute()) return {};
      if (!found->second.needed_) return {true};
    }
    if (!taker->learns(node->number())) return {};
    return {false, node->number(), std::move(taker)};
  }
};

[[nodiscard]] inline std::array<std::int64_t, 2> pair_of(at::IntArrayRef values) {
  return {values[0], values.size() > 1 ? values[1] : values[0]};
}

/// y = x Wᵀ + b
struct linear_function : ::torch::autograd::Function<linear_function> {
  static at::Tensor forward(AutogradContext* context, at::Tensor const& x, at::Tensor const& weight,
                            maybe_tensor const& bias) {
    // As libtorch: a weight whose values nobody needs again may change before the backward pass.
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor{}, x.requires_grad() ? weight : at::Tensor{}});
    context->saved_data["weight"] = weight;
    context->saved_data["x"] = x.requires_grad();
    context->saved_data["type"] = static_cast<std::int64_t>(x.scalar_type());
    context->saved_data["bias"] = bias && bias->requires_grad();
    auto const y = at::linear(x, weight, bias);
    return y.is_view() ? at::_unsafe_view(y, y.sizes()) : y;  // else it could not be changed in place
  }

  static variable_list backward(AutogradContext* context, variable_list const& gradients) {
    auto const& dy = gradients.at(0);
    auto const saved = context->get_saved_variables();
    auto const& x = saved[0];
    auto const weight = context->saved_data["weight"].toTensor();
    variable_list out(3);
    if (!dy.defined()) return out;
    if (context->saved_data["x"].toBool())
      out[0] = at::matmul(dy, saved[1].to(dy.scalar_type()))
                   .to(static_cast<at::ScalarType>(context->saved_data["type"].toInt()));
    auto const dy2 = dy.reshape({-1, weight.size(0)});
    if (x.defined()) {
      auto const x2 = x.reshape({-1, weight.size(1)});
      auto const wanted = wanted_gradient::of(weight);
      if (wanted.sampler)
        wanted.sampler->take_linear(wanted.number, dy2, x2);
      else if (wanted.dense)
        out[1] = at::matmul(dy2.t(), x2.to(dy.scalar_type())).to(weight.scalar_type());
    }
    if (context->saved_data["bias"].toBool()) out[2] = dy2.sum(0);
    return out;
  }
};

struct conv2d_function : ::torch::autograd::Function<conv2d_function> {
  static at::Tensor forward(AutogradContext* context, at::Tensor const& x, at::Tensor const& weight,
                            maybe_tensor const& bias, std::vector<std::int64_t> const& stride,
                            std::vector<std::int64_t> const& padding, std::vector<std::int64_t> const& dilation,
                            std::int64_t groups) {
    context->save_for_backward({x, weight});
    context->saved_data["x"] = x.requires_grad();
    context->saved_data["bias"] = bias && bias->requires_grad();
    context->saved_data["stride"] = stride;
    context->saved_data["padding"] = padding;
    context->saved_data["dilation"] = dilation;
    context->saved_data["groups"] = groups;
    return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
  }

  static variable_list backward(AutogradContext* context, variable_list const& gradients) {
    auto const& dy = gradients.at(0);
    auto const saved = context->get_saved_variables();
    auto const &x = saved[0], &weight = saved[1];
    variable_list out(7);
    if (!dy.defined()) return out;
    auto const stride = context->saved_data["stride"].toIntVector();
    auto const padding = context->saved_data["padding"].toIntVector();
    auto const dilation = context->saved_data["dilation"].toIntVector();
    auto const groups = context->saved_data["groups"].toInt();
    auto const wanted = wanted_gradient::of(weight);
    bool const input = context->saved_data["x"].toBool();
    if (input || wanted.dense) {
      auto const type = dy.scalar_type();
      auto const both = at::convolution_backward(dy, x.to(type), weight.to(type), at::OptionalIntArrayRef{}, stride,
                                                 padding, dilation, false, std::vector<std::int64_t>{0, 0}, groups,
                                                 {input, wanted.dense, false});
      if (input) out[0] = std::get<0>(both).to(x.scalar_type());
      if (wanted.dense) out[1] = std::get<1>(both).to(weight.scalar_type());
    }
    if (wanted.sampler)
      wanted.sampler->take_conv2d(wanted.number, dy, x, {pair_of(stride), pair_of(padding), pair_of(dilation), groups});
    if (context->saved_data["bias"].toBool()) out[2] = dy.sum({0, 2, 3});
    return out;
  }
};

struct embedding_function : ::torch::autograd::Function<embedding_function> {
  static at::Tensor forward(AutogradContext* context, at::Tensor const& weight, at::Tensor const& index,
                            std::int64_t padding_index) {
    context->save_for_backward({index});
    context->saved_data["weight"] = weight;
    context->saved_data["padding"] = padding_index;
    return at::embedding(weight, index, padding_index);
  }

  static variable_list backward(AutogradContext* context, variable_list const& gradients) {
    auto const& dy = gradients.at(0);
    auto const index = context->get_saved_variables().at(0);
    auto const weight = context->saved_data["weight"].toTensor();
    variable_list out(3);
    if (!dy.defined()) return out;
    auto const padding = context->saved_data["padding"].toInt();
    auto const wanted = wanted_gradient::of(weight);
    if (wanted.dense) out[0] = at::embedding_backward(dy, index, weight.size(0), padding, false, false);
    if (!wanted.sampler) return out;
    auto rows = dy.reshape({-1, weight.size(1)});
    auto tokens = index.reshape({-1});
    if (padding >= 0) {  // the row of padding learns nothing
      auto const real = tokens.ne(padding).nonzero().squeeze(1);
      rows = rows.index_select(0, real);
      tokens = tokens.index_select(0, real);
    }
    wanted.sampler->take_rows(wanted.number, rows, tokens);
    return out;
  }
};

}  // namespace detail

/// y = x Wᵀ + b, with a sampled gradient of W.
/// @param x       [..., in]
/// @param weight  [out, in]
/// @param bias    [out], or undefined; its gradient is dense
/// @throws sara::shape_error in the backward pass, c10::Error for sizes that do not fit
/// Under autocast the product is in its type; the gradient of W is summed in the optimizer's type of computation.
/// Extra memory in the backward pass: see the backend's sampled_product. Example: tests/torch/functions.cpp
[[nodiscard]] inline at::Tensor linear(at::Tensor const& x, at::Tensor const& weight, at::Tensor const& bias = {}) {
  return detail::linear_function::apply(x, weight, detail::if_defined(bias));
}

/// A two-dimensional convolution as torch::conv2d, with a sampled gradient of the weight.
/// @param x       [batch, in, height, width] or [in, height, width]
/// @param weight  [out, in / groups, kernel height, kernel width]
/// @param bias    [out], or undefined; its gradient is dense
/// @throws value_error  for a geometry outside its range, in the backward pass
/// Example: tests/torch/functions.cpp
[[nodiscard]] inline at::Tensor conv2d(at::Tensor const& x, at::Tensor const& weight, at::Tensor const& bias = {},
                                       conv2d_geometry const& geometry = {}) {
  if (x.dim() == 3) return sara::torch::conv2d(x.unsqueeze(0), weight, bias, geometry).squeeze(0);
  auto const vector = [](auto const& two) { return std::vector<std::int64_t>{two.begin(), two.end()}; };
  return detail::conv2d_function::apply(x, weight, detail::if_defined(bias), vector(geometry.stride),
                                        vector(geometry.padding), vector(geometry.dilation), geometry.groups);
}

/// Rows of a table, as torch::embedding, with a sampled gradient of the table.
/// @param weight         [rows, width]
/// @param index          [...] of int32 or int64
/// @param padding_index  a row that gets no gradient; -1 for none
/// @return [..., width]
/// Example: tests/torch/functions.cpp
[[nodiscard]] inline at::Tensor embedding(at::Tensor const& weight, at::Tensor const& index,
                                          std::int64_t padding_index = -1) {
  return detail::embedding_function::apply(weight, index, padding_index);
}

}  // namespace sara::torch
