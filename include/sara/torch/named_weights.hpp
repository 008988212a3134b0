// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>

#include <sara/torch/tensor.hpp>

namespace sara::torch {

/// All parameters of a module and its submodules, by their dotted names, frozen ones too.
[[nodiscard]] inline named_tensors named_weights(::torch::nn::Module const& module) {
  named_tensors out;
  for (auto const& parameter : module.named_parameters()) out.emplace_back(parameter.key(), parameter.value());
  return out;
}

}  // namespace sara::torch
