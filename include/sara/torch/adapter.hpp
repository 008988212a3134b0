// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <utility>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/adapter/apply.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backend/host.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/tensor.hpp>

namespace sara::torch {

/// An adapter on the weights of a module, and what was there before. It holds the tensors; autograd is told that they
/// have changed, so a backward pass through a graph from before is refused, as after any change in place.
template <TensorBackend Backend = host>
class applied_adapter {
 public:
  /// See apply.
  applied_adapter(Backend const& backend, sara::adapter const& a, named_tensors weights, apply_options options)
      : weights_{std::move(weights)}, applied_{sara::apply(backend, a, weights_, options)} {
    for (auto const& [name, tensor] : weights_)
      if (a.tensors.contains(name)) changed_.push_back(tensor);
    changed();
  }

  /// weights = original + scale · ΔP.  (SaRA, eq. 9)
  void rescale(double scale) {
    applied_.rescale(scale);
    changed();
  }
  /// Puts back every original value, bit by bit.
  void undo() {
    applied_.undo();
    changed();
  }

 private:
  void changed() const {
    for (auto const& tensor : changed_) ::torch::autograd::impl::bump_version(tensor);
  }

  named_tensors weights_;
  std::vector<at::Tensor> changed_;
  sara::applied_adapter<Backend> applied_;
};

/// Adds an adapter to the weights of a module, in place: P = P₀ + α ΔP.  (SaRA, eq. 9)
///
///     auto applied = sara::torch::apply(sara::load_adapter("style.safetensors"), *model, {.scale = 0.8});
///     applied.undo();
///
/// Adapters of optimizer::adapter(), of files and of sara::merge; parameters that the adapter does not name are left
/// alone.
/// @throws as sara::apply; nothing is written unless everything fits
[[nodiscard]] inline applied_adapter<> apply(sara::adapter const& a, ::torch::nn::Module const& module,
                                             apply_options options = {}) {
  return {host{}, a, named_weights(module), options};
}

/// The same for weights in another backend's memory.
template <TensorBackend Backend>
[[nodiscard]] applied_adapter<Backend> apply(Backend const& backend, sara::adapter const& a,
                                             ::torch::nn::Module const& module, apply_options options = {}) {
  return {backend, a, named_weights(module), options};
}

}  // namespace sara::torch
