// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>

#include <concepts>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <sara/select/below.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/optimizer.hpp>
#include <sara/update/adamw.hpp>
#include <sara/update/clip.hpp>
#include <sara/update/in_backward.hpp>

namespace sara::torch {

/// Settings of sara::torch::adamw.
struct adamw_options {
  double threshold = 2e-3;        ///< θ: |w| < θ learns
  std::optional<double> lr = {};  ///< without it that of eq. 12, 1e-3 · exp(-350 θ)
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;
  double max_norm = std::numeric_limits<double>::infinity();  ///< of the compact gradient, which is clipped to it
  bool update_in_backward = false;                            ///< see sara::update_in_backward
};

/// The one changed line: AdamW on the weights with |w| < θ.
///
///     torch::optim::AdamW optimizer{model->parameters()};           // before
///     sara::torch::adamw optimizer{*model, {.threshold = 2e-3}};    // after
///
/// Further policies follow the options: a regularizer, a scheduler, a RateSchedule (whose rate is `lr` where it has
/// none), names, store_as, compute_in, a backend. See optimizer, which takes another selector or rule.
/// Example: tests/torch/optimizer.cpp
class adamw : public optimizer {
 public:
  template <class... Policies>
  explicit adamw(::torch::nn::Module const& model, adamw_options const& options = {}, Policies const&... policies)
      : adamw{named_weights(model), options, policies...} {}

  template <class... Policies>
  explicit adamw(named_tensors const& weights, adamw_options const& options = {}, Policies const&... policies)
      : adamw{detail::plan::of(weights, detail::filter_of(policies...)), options, policies...} {}

  /// @param groups  std::vector<torch::optim::OptimizerParamGroup>; a template, since GCC 12 takes {.threshold = …} for
  /// one
  template <std::same_as<std::vector<::torch::optim::OptimizerParamGroup>> Groups, class... Policies>
  explicit adamw(::torch::nn::Module const& model, Groups const& groups, adamw_options const& options = {},
                 Policies const&... policies)
      : adamw{detail::plan::of(named_weights(model), detail::filter_of(policies...), groups), options, policies...} {}

 private:
  template <class... Policies>
  adamw(detail::plan&& plan, adamw_options const& options, Policies const&... policies)
      : optimizer{std::move(plan),
                  below{options.threshold},
                  rule(options),
                  clip_norm{options.max_norm},
                  default_lr{options.lr},
                  sara::update_in_backward{options.update_in_backward},
                  policies...} {}

  [[nodiscard]] static sara::adamw rule(adamw_options const& o) {
    return {o.beta1, o.beta2, o.epsilon, o.weight_decay, o.amsgrad};
  }
};

}  // namespace sara::torch
