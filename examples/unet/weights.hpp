// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/select/names.hpp>
#include <sara/tensor/traits.hpp>

#include <string>
#include <vector>

#include "model.hpp"

namespace unet {

template <class Real>
[[nodiscard]] sara::extents extents_of(parameter<Real> const& p) {
  sara::extents shape;
  for (auto const extent : p.shape) shape.push_back(extent);
  return shape;
}

/// The parameters of a model as sara sees them: views with their names. The model must outlive them.
template <class Real>
[[nodiscard]] std::vector<sara::named_tensor> named_weights(model<Real> const& of) {
  std::vector<sara::named_tensor> named;
  for (auto* p : of.parameters()) named.push_back({p->name, sara::view(p->values.data(), extents_of(*p))});
  return named;
}

/// What may be fine-tuned: the weights of convolutions and linear layers; not biases, norms, and tables of embeddings.
[[nodiscard]] inline sara::names tunable_weights() {
  return {.include = {"*.weight"}, .exclude = {"*norm*", "class.weight", "word.weight"}};
}

}  // namespace unet
