// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/adapter/apply.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backend/host.hpp>
#include <sara/error.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/placement.hpp>
#include <sara/torch/tensor.hpp>

namespace sara::torch {

namespace detail {

/// Of these, the tensors that an adapter names.
[[nodiscard]] inline named_tensors named_by(sara::adapter const& a, named_tensors weights) {
  std::erase_if(weights, [&](auto const& weight) { return !a.tensors.contains(weight.first); });
  return weights;
}

}  // namespace detail

/// An adapter on the weights of a module, and what was there before. It holds the tensors, which must keep their
/// memory; autograd is told that they have changed, so a backward pass through a graph from before is refused, as after
/// any change in place.
template <TensorBackend Backend = host>
class applied_adapter {
 public:
  /// See apply.
  applied_adapter(Backend const& backend, sara::adapter const& a, named_tensors const& weights, apply_options options)
      : applied_{sara::apply(backend, a, detail::named_by(a, weights), options)} {
    for (auto const& [name, tensor] : detail::named_by(a, weights))
      weights_.push_back({name, tensor, detail::placement::of(tensor)});
    tell_autograd();
  }

  /// weights = original + scale · ΔP.  (SaRA, eq. 9)
  /// @throws value_error  for a scale that is not finite, and if a weight has been moved, converted or loaded since
  void rescale(double scale) {
    require_in_place();
    applied_.rescale(scale);
    tell_autograd();
  }
  /// Puts back every original value, bit by bit.
  /// @throws value_error  if a weight has been moved, converted or loaded since; nothing is written then
  void undo() {
    require_in_place();
    applied_.undo();
    tell_autograd();
  }

 private:
  struct changed_weight {
    std::string name;
    at::Tensor tensor;
    detail::placement where;
  };

  void require_in_place() const {
    for (auto const& [name, tensor, where] : weights_) {
      auto const now = detail::placement::of(tensor);
      sara::detail::require<value_error>(now == where, "torch adapter: '", name, "' has other memory (", now,
                                         ") than when the adapter was applied (", where,
                                         "): expected undo() before the model is converted or loaded, got it after");
    }
  }

  void tell_autograd() const {
    for (auto const& w : weights_) ::torch::autograd::impl::bump_version(w.tensor);
  }

  sara::applied_adapter<Backend> applied_;
  std::vector<changed_weight> weights_;
};

/// Adds an adapter to the weights of a module, in place: P = P₀ + α ΔP.  (SaRA, eq. 9)
///
///     auto applied = sara::torch::apply(sara::load_adapter("style.safetensors"), *model, {.scale = 0.8});
///     applied.undo();
///
/// Adapters of optimizer::adapter(), of files and of sara::merge; parameters that the adapter does not name are left
/// alone, of whatever type they are.
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
