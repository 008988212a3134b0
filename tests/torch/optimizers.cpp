// SPDX-License-Identifier: Apache-2.0
#include "optimizers.hpp"

#include <limits>

#include <sara/regularize/nuclear_norm.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/schedule/reselection.hpp>

namespace sara::test {

namespace {

template <Real R, class... Model>
std::unique_ptr<torch::optimizer> make(recipe<> const& r, Model&&... model) {
  auto const min_side = r.lambda == 0 ? std::numeric_limits<std::int64_t>::max() : r.min_side;
  return std::make_unique<torch::optimizer>(
      std::forward<Model>(model)..., host{r.threads}, compute_in<R>{}, r.filter, below{.threshold = r.threshold},
      nuclear_norm{.weight = r.lambda, .min_side = min_side}, reselect_at{.steps = r.reselect}, r.rule, r.rate,
      clip_norm{r.clip}, update_in_backward{r.in_backward});
}

}  // namespace

std::unique_ptr<torch::optimizer> make_optimizer(::torch::nn::Module& model, recipe<> const& r, bool in_float64) {
  return in_float64 ? make<double>(r, model) : make<float>(r, model);
}

std::unique_ptr<torch::optimizer> make_grouped_optimizer(::torch::nn::Module& model,
                                                         std::vector<::torch::optim::OptimizerParamGroup> const& groups,
                                                         recipe<> const& r) {
  return make<float>(r, model, groups);
}

std::unique_ptr<torch::optimizer> make_optimizer(torch::named_tensors const& weights, recipe<> const& r,
                                                 bool in_float64) {
  return in_float64 ? make<double>(r, weights) : make<float>(r, weights);
}

}  // namespace sara::test
