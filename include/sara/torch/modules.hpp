// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <variant>

#include <sara/backend/convolution.hpp>
#include <sara/torch/functions.hpp>

/// Drop-in modules: libtorch's Linear, Conv2d and Embedding, whose backward pass samples the weight's gradient.
///
///     torch::nn::Linear fc{nullptr};        // before
///     sara::torch::linear_layer fc{nullptr};  // after: same options, same parameters, same state in files
namespace sara::torch {

namespace detail {

template <class Module, class Argument>
Argument argument_of(std::shared_ptr<::torch::nn::Module> (Module::*)(Argument) const);
/// What Module::clone takes: an optional of libtorch's own, or of the standard library in later versions.
using maybe_device = std::remove_cvref_t<decltype(argument_of(&::torch::nn::Module::clone))>;

}  // namespace detail

/// torch::nn::Linear by sara::torch::linear.
class linear_layer_impl : public ::torch::nn::LinearImpl {
 public:
  using ::torch::nn::LinearImpl::LinearImpl;
  /// The same layer, over the same parameters.
  explicit linear_layer_impl(::torch::nn::LinearImpl const& layer) : ::torch::nn::LinearImpl(layer) {
    ::torch::nn::Module::operator=(layer);  // a virtual base in libtorch 1, which the copy above leaves empty
  }

  [[nodiscard]] at::Tensor forward(at::Tensor const& x) { return sara::torch::linear(x, weight, bias); }

  [[nodiscard]] std::shared_ptr<::torch::nn::Module> clone(detail::maybe_device const& device = {}) const override {
    auto const copy = ::torch::nn::LinearImpl::clone(device);
    return std::make_shared<linear_layer_impl>(dynamic_cast<::torch::nn::LinearImpl const&>(*copy));
  }
};

/// torch::nn::Conv2d by sara::torch::conv2d; with padding that is not a number on each side, as libtorch does it.
class conv2d_layer_impl : public ::torch::nn::Conv2dImpl {
 public:
  using ::torch::nn::Conv2dImpl::Conv2dImpl;
  /// The same layer, over the same parameters.
  explicit conv2d_layer_impl(::torch::nn::Conv2dImpl const& layer) : ::torch::nn::Conv2dImpl(layer) {
    ::torch::nn::Module::operator=(layer);  // a virtual base in libtorch 1, which the copy above leaves empty
  }

  [[nodiscard]] at::Tensor forward(at::Tensor const& x) {
    using std::get_if;  // or that of libtorch's own variant, in versions that have one
    auto const* const padding = get_if<::torch::ExpandingArray<2>>(&options.padding());
    if (padding == nullptr || get_if<::torch::enumtype::kZeros>(&options.padding_mode()) == nullptr)
      return ::torch::nn::Conv2dImpl::forward(x);
    return sara::torch::conv2d(x, weight, bias, {*options.stride(), **padding, *options.dilation(), options.groups()});
  }

  [[nodiscard]] std::shared_ptr<::torch::nn::Module> clone(detail::maybe_device const& device = {}) const override {
    auto const copy = ::torch::nn::Conv2dImpl::clone(device);
    return std::make_shared<conv2d_layer_impl>(dynamic_cast<::torch::nn::Conv2dImpl const&>(*copy));
  }
};

/// torch::nn::Embedding by sara::torch::embedding; with max_norm, sparse or scale_grad_by_freq, as libtorch does it.
class embedding_layer_impl : public ::torch::nn::EmbeddingImpl {
 public:
  using ::torch::nn::EmbeddingImpl::EmbeddingImpl;
  /// The same layer, over the same parameters.
  explicit embedding_layer_impl(::torch::nn::EmbeddingImpl const& layer) : ::torch::nn::EmbeddingImpl(layer) {
    ::torch::nn::Module::operator=(layer);  // a virtual base in libtorch 1, which the copy above leaves empty
  }

  [[nodiscard]] at::Tensor forward(at::Tensor const& index) {
    if (options.max_norm() || options.sparse() || options.scale_grad_by_freq())
      return ::torch::nn::EmbeddingImpl::forward(index);
    return sara::torch::embedding(weight, index, options.padding_idx().value_or(-1));
  }

  [[nodiscard]] std::shared_ptr<::torch::nn::Module> clone(detail::maybe_device const& device = {}) const override {
    auto const copy = ::torch::nn::EmbeddingImpl::clone(device);
    return std::make_shared<embedding_layer_impl>(dynamic_cast<::torch::nn::EmbeddingImpl const&>(*copy));
  }
};

/// Holders, as libtorch's modules have them.
class linear_layer : public ::torch::nn::ModuleHolder<linear_layer_impl> {
 public:
  using ::torch::nn::ModuleHolder<linear_layer_impl>::ModuleHolder;
};
class conv2d_layer : public ::torch::nn::ModuleHolder<conv2d_layer_impl> {
 public:
  using ::torch::nn::ModuleHolder<conv2d_layer_impl>::ModuleHolder;
};
class embedding_layer : public ::torch::nn::ModuleHolder<embedding_layer_impl> {
 public:
  using ::torch::nn::ModuleHolder<embedding_layer_impl>::ModuleHolder;
};

namespace detail {

/// The layer that samples, over the same parameters; null for a module of another type, subclasses included.
template <class Sampled, class Layer>
[[nodiscard]] std::shared_ptr<Sampled> sampled_layer(::torch::nn::Module const& module) {
  if (typeid(module) != typeid(Layer)) return nullptr;
  return std::make_shared<Sampled>(dynamic_cast<Layer const&>(module));
}

template <class Sampled, class Layer>
bool replace_layer(::torch::nn::SequentialImpl& parent, ::torch::nn::AnyModule& entry, std::string const& name) {
  auto const layer = sampled_layer<Sampled, Layer>(*entry.ptr());
  if (!layer) return false;
  entry = ::torch::nn::AnyModule{layer};
  parent.replace_module(name, layer);
  return true;
}

}  // namespace detail

/// Puts drop-in modules in the place of Linear, Conv2d and Embedding layers in every Sequential of a model, with their
/// parameters: an optimizer made before or after trains the same. Elsewhere a model's code names its layers' types, so
/// they cannot be exchanged from outside: there gradients are gathered, unless sampled_operators are at work or the
/// model names the drop-in module.
/// @return how many layers were replaced
inline std::int64_t sample_layers(::torch::nn::Module& model) {
  std::int64_t replaced = 0;
  auto const replace_in = [&](::torch::nn::Module& module) {
    auto* const parent = dynamic_cast<::torch::nn::SequentialImpl*>(&module);
    if (parent == nullptr) return;
    auto entry = parent->begin();
    for (auto const& child : parent->named_children()) {
      using namespace ::torch::nn;
      replaced += detail::replace_layer<linear_layer_impl, LinearImpl>(*parent, *entry, child.key()) ||
                  detail::replace_layer<conv2d_layer_impl, Conv2dImpl>(*parent, *entry, child.key()) ||
                  detail::replace_layer<embedding_layer_impl, EmbeddingImpl>(*parent, *entry, child.key());
      ++entry;
    }
  };
  replace_in(model);  // not among modules(), which needs a shared_ptr for it
  for (auto const& module : model.modules(/*include_self=*/false)) replace_in(*module);
  return replaced;
}

}  // namespace sara::torch
