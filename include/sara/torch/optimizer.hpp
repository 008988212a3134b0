// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>
#include <torch/serialize/archive.h>

#include <algorithm>
#include <any>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/error.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/select/names.hpp>
#include <sara/torch/groups.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/tensor.hpp>
#include <sara/torch/training.hpp>
#include <sara/torch/tuner.hpp>
#include <sara/tune/name_index.hpp>
#include <sara/tune/roles.hpp>
#include <sara/tune/segment.hpp>

namespace sara::torch {

/// A learning rate for a schedule that has none of its own: an argument of optimizer. Without it, eq. 12.
struct default_lr {
  std::optional<double> lr = {};
};

namespace detail {

template <class P>
struct is_default_lr : std::is_same<P, default_lr> {};

/// The names among the policies, or all names.
template <class... Policies>
[[nodiscard]] names filter_of(Policies const&... policies) {
  names const every_name;  // a variable: GCC 12 does not survive the braces in a template
  return sara::detail::pick<sara::detail::policy_roles::filter>(every_name, policies...);
}

/// @throws value_error  for a tensor in the middle of a graph
inline void require_leaf(std::string const& name, at::Tensor const& tensor) {
  sara::detail::require<value_error>(tensor.is_leaf(), "torch optimizer: '", name,
                                     "': expected a leaf, got the result of an operation");
}

/// @throws value_error  for a tensor to train that the filter takes by one of its names only
inline void require_undivided(named_tensors const& all, names const& filter) {
  for (auto const& [name, tensor] : all) {
    if (!tensor.requires_grad()) continue;
    auto const first =
        std::find_if(all.begin(), all.end(), [&t = tensor](auto const& other) { return other.second.is_same(t); });
    sara::detail::require_undivided("torch optimizer", filter, name, first->first);
  }
}

/// What an optimizer is made of, before it is made.
struct plan {
  named_tensors weights;  // that may learn
  std::vector<::torch::optim::OptimizerParamGroup> groups;
  std::unordered_map<std::string, std::size_t> group_of;

  /// All weights that require gradients, in one group.
  /// @throws value_error  for a tensor that the filter takes by one of its names only
  static plan of(named_tensors const& all, names const& filter) {
    require_undivided(all, filter);
    plan out;
    std::vector<at::Tensor> parameters;
    for (auto const& [name, tensor] : all) {
      if (!tensor.requires_grad() || !filter.contains(name)) continue;
      require_leaf(name, tensor);
      out.weights.emplace_back(name, tensor);
      if (std::none_of(parameters.begin(), parameters.end(), [&t = tensor](auto const& p) { return p.is_same(t); }))
        parameters.push_back(tensor);
    }
    out.groups.emplace_back(std::move(parameters));
    return out;
  }

  /// Those of them that are in the groups.
  /// @throws name_error   for a tensor of a group that has no name
  /// @throws value_error  for a tensor in two groups, or options of another type; for one that the filter takes by one
  /// of its names only
  static plan of(named_tensors const& all, names const& filter,
                 std::vector<::torch::optim::OptimizerParamGroup> const& groups) {
    using sara::detail::require;
    require_undivided(all, filter);
    plan out;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      std::vector<at::Tensor> parameters;
      for (auto const& tensor : groups[g].params()) {
        bool named = false;
        for (auto const& [name, weight] : all) {
          if (!weight.is_same(tensor)) continue;
          named = true;
          if (!weight.requires_grad() || !filter.contains(name)) continue;
          require_leaf(name, weight);
          auto const [in, is_new] = out.group_of.emplace(name, g);
          require<value_error>(in->second == g, "torch optimizer: expected '", name, "' in one group, got it in ",
                               in->second, " and ", g);
          if (!is_new) continue;  // parameters() names a tied tensor each time
          out.weights.emplace_back(name, weight);
          if (parameters.empty() || !parameters.back().is_same(tensor)) parameters.push_back(tensor);
        }
        require<name_error>(named, "torch optimizer: expected parameters of the model in group ", g,
                            ", got a tensor of sizes ", tensor.sizes(), " that it does not have");
      }
      out.groups.emplace_back(std::move(parameters));
      if (!groups[g].has_options()) continue;
      require<value_error>(dynamic_cast<group_options const*>(&groups[g].options()) != nullptr,
                           "torch optimizer: expected sara::torch::group_options for group ", g,
                           ", got options of another type");
      out.groups.back().set_options(groups[g].options().clone());
    }
    return out;
  }
};

}  // namespace detail

/// SaRA as an optimizer of libtorch: selects what learns when it is made, gathers each weight's gradient as soon as
/// autograd has it, and moves what learns, in place.  (SaRA, eq. 1 to 7, section 4.3)
///
///     sara::torch::optimizer optimizer{*model, sara::below{.threshold = 2e-3}, sara::nuclear_norm{.weight = 5e-4},
///                                      sara::reselect_halfway{.steps = steps}, sara::cosine_rate{.steps = steps}};
///     loss.backward();
///     optimizer.step();
///
/// Arguments after the model are policies, as of fine_tuner, in any order; a default_lr gives a rate, a TensorBackend
/// says what computes: without one a sara::host with at::get_num_threads(). For weights on a CUDA device pass a
/// sara::cuda::device over the stream that the backward pass runs on. Every parameter that requires a
/// gradient and that a sara::names among them does not leave out is trained; the others are left alone.
///
/// What it does to a model: weights stay the leaves that they are, but their gradient accumulators are gather_nodes, so
/// `.grad` stays undefined and no pile of dense gradients is ever alive, see gather_node. It ends with the optimizer. A
/// gradient that lies in `.grad` all the same is taken in by step(), which forgets all gradients: zero_grad() is for
/// those to be dropped. Computation is in float32, or in float64 with a compute_in<double>; narrower weights have
/// float32 masters.
///
/// With a sara::update_in_backward each weight is moved as soon as its gradient is complete, and step() has the rest:
/// weights that only the regularizer moves, or that share memory. One backward pass a step, without clipping; what has
/// been moved cannot be dropped.
///
/// One weight, one optimizer of this kind. Weights must keep their memory from the first backward pass on; see
/// docs/torch.md for what else sees them. Example: tests/torch/optimizer.cpp
class optimizer : public ::torch::optim::Optimizer {
 public:
  optimizer(optimizer&&) = delete;  // the backward pass knows where it is
  ~optimizer() override { training_->stop(); }

  /// @throws what fine_tuner throws when it is made, and value_error for a weight that another optimizer has
  /// Complexity and memory: as fine_tuner.
  template <class... Policies>
  explicit optimizer(::torch::nn::Module const& model, Policies const&... policies)
      : optimizer{named_weights(model), policies...} {}

  /// Any named tensors: leaves, of a model that is no torch::nn::Module.
  template <class... Policies>
  explicit optimizer(named_tensors const& weights, Policies const&... policies)
      : optimizer{detail::plan::of(weights, detail::filter_of(policies...)), policies...} {}

  /// The model's parameters in groups, each with a learning rate and settings of its own, see group_options. Policies
  /// that are not update rules are common to all; so are positions, norm and state.
  template <class... Policies>
  explicit optimizer(::torch::nn::Module const& model, std::vector<::torch::optim::OptimizerParamGroup> const& groups,
                     Policies const&... policies)
      : optimizer{detail::plan::of(named_weights(model), detail::filter_of(policies...), groups), policies...} {}

  /// One step: regularise, clip, update in place, reselect if it is time; forgets the gradients.
  /// @param closure  clears the gradients, computes the loss and its gradients; called once, with gradients on
  /// @return the closure's loss, or an undefined tensor
  /// @throws value_error  if weights have moved since the first backward pass, parameters were added, or a learning
  /// rate is negative or NaN
  at::Tensor step(LossClosure closure = nullptr) override {
    at::Tensor loss;
    if (closure) {
      at::AutoGradMode const with_gradients{true};
      loss = closure();
    }
    read_rates();
    training_->step();
    return loss;
  }

  /// Drops the gradients since the last step. Called through a base class, libtorch's zero_grad cannot see them.
  void zero_grad(bool = true) { training_->zero_gradient(); }

  /// Everything that resuming needs, for torch::save: as fine_tuner::save_state, and the learning rates.
  /// @throws value_error  if weights have moved since the first backward pass
  void save(::torch::serialize::OutputArchive& archive) const override {
    auto bytes = training_->read(&detail::any_tuner::state);
    archive.write("sara_state", at::from_blob(bytes.data(), {std::ssize(bytes)}, at::dtype(at::kByte)).clone(),
                  /*is_buffer=*/true);
    std::vector<double> rates;
    for (auto const& group : param_groups()) rates.push_back(group.options().get_lr());
    archive.write("sara_rates", at::tensor(rates, at::dtype(at::kDouble)), /*is_buffer=*/true);
  }

  /// Goes on where torch::save was called, bit by bit: an optimizer with the same policies, over the base weights or
  /// over those saved beside it. Nothing changes unless all of the state fits.
  /// @throws file_error, base_error, name_error, shape_error, value_error  as fine_tuner::load_state
  void load(::torch::serialize::InputArchive& archive) override {
    at::Tensor state, rates;
    sara::detail::require<file_error>(
        archive.try_read("sara_state", state, true) && archive.try_read("sara_rates", rates, true),
        "torch optimizer: expected the state of a sara optimizer, got an archive without one");
    sara::detail::require<value_error>(rates.numel() == std::ssize(param_groups()), "torch optimizer: expected ",
                                       param_groups().size(), " parameter groups in the state, got ", rates.numel());
    state = state.to(at::kCPU).contiguous();
    std::vector<std::byte> bytes(static_cast<std::size_t>(state.numel()));
    if (!bytes.empty()) std::memcpy(bytes.data(), state.data_ptr(), bytes.size());
    training_->load(safetensors::of(std::move(bytes), "torch optimizer's state"));
    for (std::size_t g = 0; g < param_groups().size(); ++g)
      param_groups()[g].options().set_lr(rates[static_cast<std::int64_t>(g)].item<double>());
  }

  /// What was learned so far. See fine_tuner::adapter.
  /// @throws value_error  if weights have moved since the first backward pass
  [[nodiscard]] sara::adapter adapter() const { return training_->read(&detail::any_tuner::adapter); }

  /// What the last step did. Synchronises.
  [[nodiscard]] step_facts report() const {
    auto out = training_->ask(&detail::any_tuner::facts);
    out.rate *= groups_->rates.empty() ? 1.0 : groups_->rates[0];
    return out;
  }

  /// Steps done.
  [[nodiscard]] std::int64_t steps() const { return training_->ask(&detail::any_tuner::steps); }
  /// Entries that learn, over all tensors.
  [[nodiscard]] std::int64_t learning() const { return training_->ask(&detail::any_tuner::learning); }
  /// Entries of M as first selected, over all tensors.
  [[nodiscard]] std::int64_t selected() const { return training_->ask(&detail::any_tuner::selected); }
  /// The tensors that may learn.
  [[nodiscard]] std::vector<tensor_summary> tensors() const { return training_->ask(&detail::any_tuner::tensors); }
  /// What is held beside the model.
  [[nodiscard]] memory_summary memory() const { return training_->ask(&detail::any_tuner::memory); }
  /// The compact gradient of one tensor since the last step.
  /// @throws name_error
  [[nodiscard]] std::vector<double> gradient(std::string const& name) const {
    return training_->ask(&detail::any_tuner::gradient, name);
  }

 protected:
  template <class... Policies>
  explicit optimizer(detail::plan&& plan, Policies const&... policies)
      : Optimizer{std::move(plan.groups), std::make_unique<group_options>()},
        groups_{std::make_shared<detail::group_table>()},
        common_rate_{sara::detail::pick<sara::detail::policy_roles::rate>(constant_rate{}, policies...).rate},
        settled_rates_(param_groups().size()) {
    if (!common_rate_) common_rate_ = sara::detail::pick<detail::is_default_lr>(default_lr{}, policies...).lr;
    std::vector<std::any> rules;
    for (auto& group : param_groups()) {
      auto const& options = static_cast<group_options const&>(group.options());
      rules.push_back(options.own_rule());
      groups_->rates.push_back(options.own_lr().value_or(0));  // 0: not known before the selection is
      parameters_ += group.params().size();
    }
    groups_->group_of = std::move(plan.group_of);
    std::shared_ptr<detail::group_table const> const table = groups_;
    training_ = detail::training::start(
        std::move(plan.weights),
        [table, rules, policies...](auto const& weights) {
          return without_lr([&](auto const&... others) { return detail::make_tuner(weights, table, rules, others...); },
                            policies...);
        },
        [this] { read_rates(); }, [this](auto const& selection) { settle_rates(selection); });
    settle_rates(tensors());
  }

 private:
  /// The groups' learning rates as they are now.
  void read_rates() {
    std::size_t parameters = 0;
    for (auto const& group : param_groups()) parameters += group.params().size();
    sara::detail::require<value_error>(parameters == parameters_ && param_groups().size() == groups_->rates.size(),
                                       "torch optimizer: expected the ", parameters_,
                                       " parameters that it was made with, got ", parameters,
                                       ": make another optimizer for what is added");
    for (std::size_t g = 0; g < groups_->rates.size(); ++g) {
      auto const rate = param_groups()[g].options().get_lr();
      sara::detail::require<value_error>(rate >= 0, "torch optimizer: expected a learning rate of at least 0 in group ",
                                         g, ", got ", rate);
      groups_->rates[g] = rate;
    }
  }

  /// f(all policies but a default_lr)
  template <class F, class... Policies>
  static auto without_lr(F&& f, Policies const&... policies) {
    return std::apply(f, std::tuple_cat(sara::detail::tuple_if<!std::is_same_v<Policies, default_lr>>(policies)...));
  }

  /// Gives groups without a rate the schedule's, the default, or that of eq. 12 for a selection; again for another one,
  /// where nobody has set a rate since.
  void settle_rates(std::vector<tensor_summary> const& selection) {
    auto rate = common_rate_;
    for (std::size_t g = 0; g < param_groups().size(); ++g) {
      auto& options = static_cast<group_options&>(param_groups()[g].options());
      if (options.own_lr() == settled_rates_[g]) {
        if (!rate) rate = sara::detail::rate_for_thresholds(selection);
        sara::detail::require<value_error>(
            rate.has_value() || selection.empty(),
            "torch optimizer: expected a learning rate, since none follows from a selection that is not by magnitude "
            "(eq. 12); got none");
        settled_rates_[g] = rate.value_or(0);
        options.set_lr(*settled_rates_[g]);
      }
      groups_->rates[g] = options.get_lr();
    }
  }

  std::shared_ptr<detail::group_table> groups_;
  std::optional<double> common_rate_;                 // of groups without one, if it is given
  std::vector<std::optional<double>> settled_rates_;  // of those groups
  std::shared_ptr<detail::training> training_;
  std::size_t parameters_ = 0;
};

}  // namespace sara::torch
