// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <ATen/RedispatchFunctions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DispatchKeySet.h>
#include <torch/library.h>

#include <cstdint>
#include <memory>
#include <mutex>

#include <sara/torch/functions.hpp>
#include <sara/torch/gather_node.hpp>

namespace sara::torch {

namespace detail {

using keys = c10::DispatchKeySet;

/// Where the dispatcher finds libtorch's own kernel of an operator whose entries for AutogradCPU and AutogradCUDA are
/// taken: at another autograd key, which no tensor on either has. (Keys are removed without their backend.)
[[nodiscard]] inline keys beside(keys const& of) {
  return of.remove(c10::DispatchKey::AutogradCPU).add(c10::DispatchKey::AutogradOther);
}

[[nodiscard]] inline bool is_sampled(at::Tensor const& weight) {
  return at::GradMode::is_enabled() && weight.requires_grad() && weight.is_leaf() && gather_node::of(weight) != nullptr;
}

/// W of Wᵀ, if a sara optimizer trains it; undefined for any other matrix. libtorch's layers multiply by weight.t().
[[nodiscard]] inline at::Tensor transposed_weight(at::Tensor const& matrix) {
  if (!at::GradMode::is_enabled() || matrix.dim() != 2 || !matrix.is_view()) return {};
  auto const& made_by = matrix.grad_fn();
  if (!made_by || made_by->name() != "TBackward0") return {};
  auto const node = std::dynamic_pointer_cast<gather_node>(made_by->next_edge(0).function);
  return node ? node->weight() : at::Tensor{};
}

inline at::Tensor linear_operator(keys ks, at::Tensor const& x, at::Tensor const& weight, maybe_tensor const& bias) {
  if (!is_sampled(weight)) return at::redispatch::linear(beside(ks), x, weight, bias);
  return linear_function::apply(x, weight, bias);
}

inline at::Tensor matmul_operator(keys ks, at::Tensor const& x, at::Tensor const& matrix) {
  auto const weight = transposed_weight(matrix);
  if (!weight.defined()) return at::redispatch::matmul(beside(ks), x, matrix);
  return linear_function::apply(x, weight, maybe_tensor{});
}

inline at::Tensor addmm_operator(keys ks, at::Tensor const& bias, at::Tensor const& x, at::Tensor const& matrix,
                                 at::Scalar const& beta, at::Scalar const& alpha) {
  auto const weight = beta.equal(1) && alpha.equal(1) && bias.dim() == 1 ? transposed_weight(matrix) : at::Tensor{};
  if (!weight.defined()) return at::redispatch::addmm(beside(ks), bias, x, matrix, beta, alpha);
  return linear_function::apply(x, weight, maybe_tensor{bias});
}

inline at::Tensor conv2d_operator(keys ks, at::Tensor const& x, at::Tensor const& weight, maybe_tensor const& bias,
                                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                                  std::int64_t groups) {
  if (!is_sampled(weight) || x.dim() != 4)
    return at::redispatch::conv2d(beside(ks), x, weight, bias, stride, padding, dilation, groups);
  return conv2d_function::apply(x, weight, bias, stride.vec(), padding.vec(), dilation.vec(), groups);
}

inline at::Tensor embedding_operator(keys ks, at::Tensor const& weight, at::Tensor const& index,
                                     std::int64_t padding_index, bool scale_grad_by_freq, bool sparse) {
  if (!is_sampled(weight) || scale_grad_by_freq || sparse)
    return at::redispatch::embedding(beside(ks), weight, index, padding_index, scale_grad_by_freq, sparse);
  return embedding_function::apply(weight, index, padding_index);
}

}  // namespace detail

/// While one lives, libtorch's own operators sample the gradients of weights that a sara optimizer trains, whoever
/// calls them: modules that name the types of their layers, attention, code without modules. Values, and all that
/// happens to other weights, are libtorch's.
///
///     sara::torch::sampled_operators const sampling;
///
/// They are linear, conv2d, embedding, and the products addmm and matmul by a weight's t(), in the dispatcher's entries
/// for the autograd keys of CPU and CUDA: in the whole process, so make it before other threads compute and keep it as
/// long as they do. Any number may live at a time. Gradients are gathered as without it of what reaches an operator
/// other than whole (a slice, what autocast has converted), of convolutions with padding by name or of one image
/// without a batch, of embeddings with sparse or scale_grad_by_freq. A t() that is sampled through gets no gradient of
/// its own.
/// Example: tests/torch/sampled_operators.cpp
class sampled_operators {
 public:
  sampled_operators() : entries_{shared()} {}

 private:
  [[nodiscard]] static std::shared_ptr<::torch::Library> shared() {
    static std::mutex mutex;
    static std::weak_ptr<::torch::Library> living;
    std::scoped_lock const lock{mutex};
    auto entries = living.lock();
    if (entries) return entries;
    entries =
        std::make_shared<::torch::Library>(::torch::Library{::torch::Library::IMPL, "aten", {}, __FILE__, __LINE__});
    for (auto const key : {c10::DispatchKey::AutogradCPU, c10::DispatchKey::AutogradCUDA}) {
      auto const take = [&](char const* name, auto* by) { entries->impl(name, ::torch::dispatch(key, by)); };
      take("linear", &detail::linear_operator);
      take("matmul", &detail::matmul_operator);
      take("addmm", &detail::addmm_operator);
      take("conv2d", &detail::conv2d_operator);
      take("embedding", &detail::embedding_operator);
    }
    living = entries;
    return entries;
  }

  std::shared_ptr<::torch::Library> entries_;
};

}  // namespace sara::torch
