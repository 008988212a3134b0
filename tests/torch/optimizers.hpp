// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include <sara/torch/optimizer.hpp>

#include "../support/compare.hpp"
#include "../support/recipe.hpp"

namespace sara::test {

/// An optimizer with a policy in every role. The tuners behind it take long to compile, so one unit has them all.
std::unique_ptr<torch::optimizer> make_optimizer(::torch::nn::Module& model, recipe<> const& r = {},
                                                 bool in_float64 = false);
std::unique_ptr<torch::optimizer> make_grouped_optimizer(::torch::nn::Module& model,
                                                         std::vector<::torch::optim::OptimizerParamGroup> const& groups,
                                                         recipe<> const& r = {});

std::unique_ptr<torch::optimizer> make_optimizer(torch::named_tensors const& weights, recipe<> const& r = {},
                                                 bool in_float64 = false);

/// Linear, tanh, Linear, with a name each: fc1 and fc2.
struct two_layers : ::torch::nn::Module {
  explicit two_layers(std::int64_t in = 12, std::int64_t hidden = 24, std::int64_t out = 5)
      : fc1{register_module("fc1", ::torch::nn::Linear(in, hidden))},
        fc2{register_module("fc2", ::torch::nn::Linear(hidden, out))} {}
  at::Tensor forward(at::Tensor const& x) { return fc2->forward(::torch::tanh(fc1->forward(x))); }

  ::torch::nn::Linear fc1, fc2;
};

/// Same weights as another model.
inline void copy_weights(::torch::nn::Module const& from, ::torch::nn::Module& to) {
  at::NoGradGuard const no_grad;
  auto parameters = to.named_parameters();
  for (auto const& p : from.named_parameters()) parameters[p.key()].copy_(p.value());
}

/// The names of the parameters that differ in any bit.
[[nodiscard]] inline std::vector<std::string> different_weights(::torch::nn::Module const& a,
                                                                ::torch::nn::Module const& b) {
  std::vector<std::string> out;
  auto const others = b.named_parameters();
  for (auto const& p : a.named_parameters())
    if (!::torch::equal(p.value(), others[p.key()])) out.push_back(p.key());
  return out;
}

/// Elements in row-major order.
template <class T>
[[nodiscard]] std::vector<T> elements_of(at::Tensor const& tensor) {
  auto const dense = tensor.detach().to(c10::CppTypeToScalarType<T>::value).contiguous();
  auto const* const first = dense.template data_ptr<T>();
  return {first, first + dense.numel()};
}

/// The elements of `dense` where |weight| < θ, in row-major order.
[[nodiscard]] inline std::vector<double> where_small(at::Tensor const& dense, at::Tensor const& weight,
                                                     double threshold) {
  return elements_of<double>(dense.masked_select(weight.detach().abs() < threshold));
}

}  // namespace sara::test
