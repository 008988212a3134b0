// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <ATen/RedispatchFunctions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/DispatchKeySet.h>
#include <torch/csrc/autograd/variable.h>
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

/// W of Wᵀ, if a sara optimizer trains it; undefined for any other matrix, and where somebody wants the gradient of Wᵀ.
/// libtorch's layers multiply by weight.t().
[[nodiscard]] inline at::Tensor transposed_weight(at::Tensor const& matrix) {
  if (matrix.dim() != 2 || !matrix.is_view()) return {};
  auto const& made_by = matrix.grad_fn();
  if (!made_by || made_by->name() != "TBackward0") return {};
  auto const node = std::dynamic_pointer_cast<gather_node>(made_by->next_edge(0).function);
  if (!node || !is_sampled(node->weight()) || node->weight().data_ptr() != matrix.data_ptr()) return {};
  if (matrix.retains_grad() || !::torch::autograd::impl::hooks(matrix).empty()) return {};
  return node->weight();
}

/// Whether the wing's functions do with these what libtorch does.
[[nodiscard]] inline bool suits(at::Tensor const& x, at::Tensor const& weight, at::Tensor const& bias) {
  auto const plain = [](at::Tensor const& t) { return t.layout() == at::kStrided && !t._fw_grad(0).defined(); };
  return plain(x) && x.dim() > 0 && plain(weight) && weight.dim() >= 2 && weight.numel() > 0 &&
         (!bias.defined() || (plain(bias) && bias.dim() == 1 && bias.size(0) == weight.size(0)));
}

[[nodiscard]] inline at::Tensor or_undefined(maybe_tensor const& tensor) { return tensor ? *tensor : at::Tensor{}; }

inline at::Tensor linear_operator(keys ks, at::Tensor const& x, at::Tensor const& weight, maybe_tensor const& bias) {
  if (!is_sampled(weight) || !suits(x, weight, or_undefined(bias)))
    return at::redispatch::linear(beside(ks), x, weight, bias);
  return linear_function::apply(x, weight, bias);
}

inline at::Tensor matmul_operator(keys ks, at::Tensor const& x, at::Tensor const& matrix) {
  auto const weight = transposed_weight(matrix);
  if (!weight.defined() || !suits(x, weight, {})) return at::redispatch::matmul(beside(ks), x, matrix);
  return linear_function::apply(x, weight, maybe_tensor{});
}

inline at::Tensor addmm_operator(keys ks, at::Tensor const& bias, at::Tensor const& x, at::Tensor const& matrix,
                                 at::Scalar const& beta, at::Scalar const& alpha) {
  auto const weight = transposed_weight(matrix);
  if (!weight.defined() || !suits(x, weight, bias) || x.dim() != 2 || !beta.equal(1) || !alpha.equal(1))
    return at::redispatch::addmm(beside(ks), bias, x, matrix, beta, alpha);
  return linear_function::apply(x, weight, maybe_tensor{bias});
}

inline at::Tensor conv2d_operator(keys ks, at::Tensor const& x, at::Tensor const& weight, maybe_tensor const& bias,
                                  at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                                  std::int64_t groups) {
  if (!is_sampled(weight) || !suits(x, weight, or_undefined(bias)) || x.dim() != 4)
    return at::redispatch::conv2d(beside(ks), x, weight, bias, stride, padding, dilation, groups);
  return conv2d_function::apply(x, weight, bias, stride.vec(), padding.vec(), dilation.vec(), groups);
}

inline at::Tensor embedding_operator(keys ks, at::Tensor const& weight, at::Tensor const& index,
                                     std::int64_t padding_index, bool scale_grad_by_freq, bool sparse) {
  if (!is_sampled(weight) || weight._fw_grad(0).defined() || scale_grad_by_freq || sparse)
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
/// They are linear, conv2d, embedding, and the products matmul and addmm by a weight's t(), in the dispatcher's entries
/// for the autograd keys of CPU and CUDA: in the whole process, so make it before other threads compute and keep it as
/// long as they do. Any number may live at a time. All other uses of a weight are gathered as without it: a slice, what
/// autocast has converted, sparse inputs, a bias of another shape than [out], addmm with factors, padding by name, one
/// image without a batch, an embedding with sparse or scale_grad_by_freq, forward-mode derivatives. A t() with hooks or
/// retain_grad() is left alone; torch::autograd::grad of any other t() finds it unused.
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
