// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/select/names.hpp>
#include <sara/tensor/traits.hpp>

#include <vector>

#include "network.hpp"
#include "parameter.hpp"

namespace unet {

[[nodiscard]] inline sara::extents extents_of(described_parameter const& p) {
  sara::extents shape;
  for (auto const extent : p.shape) shape.push_back(extent);
  return shape;
}

/// The parameters of a model as sara sees them: views with their names. The model must outlive them.
template <class Layers>
[[nodiscard]] std::vector<sara::named_tensor> named_weights(basic_model<Layers> const& of) {
  std::vector<sara::named_tensor> named;
  for (auto* p : of.parameters()) named.push_back({p->name, sara::view(p->data(), extents_of(*p), Layers::where)});
  return named;
}

/// What may be fine-tuned: the weights of convolutions and linear layers; not biases, norms, and tables of embeddings.
[[nodiscard]] inline sara::names tunable_weights() {
  return {.include = {"*.weight"}, .exclude = {"*norm*", "class.weight", "word.weight"}};
}

}  // namespace unet
