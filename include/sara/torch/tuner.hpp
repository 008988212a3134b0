// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backend/convolution.hpp>
#include <sara/backend/host.hpp>
#include <sara/error.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/regularize/concept.hpp>
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/torch/groups.hpp>
#include <sara/torch/tensor.hpp>
#include <sara/tune/fine_tuner.hpp>
#include <sara/tune/roles.hpp>

namespace sara::torch {

/// What a step did.
struct step_facts {
  std::int64_t step = 0;         ///< steps done, this one included
  double rate = 0;               ///< learning rate of the first group in this step
  bool reselected = false;       ///< M was reselected after this step
  std::int64_t learning = 0;     ///< entries that learn from now on
  double regularizer_loss = 0;   ///< λ Σ ‖P ⊙ M‖_* before the step
  double gradient_norm = 0;      ///< of the compact gradient, the regularizer's included, before clipping
  std::int64_t at_or_above = 0;  ///< how many of M were at or above θ after the step
};

namespace detail {

/// A fine_tuner whose backend, type of computation and policies are no longer part of its type.
class any_tuner {
 public:
  any_tuner() = default;
  any_tuner(any_tuner const&) = delete;
  any_tuner& operator=(any_tuner const&) = delete;
  virtual ~any_tuner() = default;

  /// Whether steps move weights that got no gradient.
  [[nodiscard]] virtual bool regularizes() const = 0;
  [[nodiscard]] virtual bool learns(std::string const& name) = 0;
  virtual void accumulate(std::string const& name, at::Tensor const& dw) = 0;
  virtual void accumulate_linear(std::string const& name, at::Tensor const& dy, at::Tensor const& x) = 0;
  virtual void accumulate_conv2d(std::string const& name, at::Tensor const& dy, at::Tensor const& x,
                                 conv2d_geometry const& geometry) = 0;
  virtual void accumulate_rows(std::string const& name, at::Tensor const& dy, std::span<std::int64_t const> index) = 0;
  [[nodiscard]] virtual bool updates_in_backward() const = 0;
  virtual void update_in_backward(std::string const& name) = 0;
  virtual void step() = 0;
  virtual void zero_gradient() = 0;
  virtual void freeze(std::string const& name, bool frozen) = 0;
  /// Of the last step; `rate` is the schedule's factor. Synchronises.
  [[nodiscard]] virtual step_facts facts() const = 0;
  [[nodiscard]] virtual sara::adapter adapter() const = 0;
  [[nodiscard]] virtual std::vector<std::byte> state() const = 0;
  virtual void load_state(safetensors const& file) = 0;
  [[nodiscard]] virtual std::int64_t steps() const = 0;
  [[nodiscard]] virtual std::int64_t learning() const = 0;
  [[nodiscard]] virtual std::int64_t selected() const = 0;
  [[nodiscard]] virtual std::vector<tensor_summary> tensors() const = 0;
  [[nodiscard]] virtual memory_summary memory() const = 0;
  [[nodiscard]] virtual std::vector<double> gradient(std::string const& name) const = 0;
};

template <class Tuner, bool Regularizes>
class tuner_of final : public any_tuner {
 public:
  template <class... Arguments>
  explicit tuner_of(Arguments&&... arguments) : tuner_{std::forward<Arguments>(arguments)...} {}

  [[nodiscard]] bool regularizes() const override { return Regularizes; }
  [[nodiscard]] bool learns(std::string const& name) override { return tuner_[name].learns(); }
  void accumulate(std::string const& name, at::Tensor const& dw) override { tuner_[name].accumulate(dw); }
  void accumulate_linear(std::string const& name, at::Tensor const& dy, at::Tensor const& x) override {
    tuner_[name].accumulate(dy, x);
  }
  void accumulate_conv2d(std::string const& name, at::Tensor const& dy, at::Tensor const& x,
                         conv2d_geometry const& geometry) override {
    tuner_[name].accumulate(dy, x, geometry);
  }
  void accumulate_rows(std::string const& name, at::Tensor const& dy, std::span<std::int64_t const> index) override {
    tuner_[name].accumulate_embedding(dy, index);
  }
  [[nodiscard]] bool updates_in_backward() const override { return tuner_.updates_in_backward(); }
  void update_in_backward(std::string const& name) override { tuner_.update_in_backward(name); }
  void step() override { last_ = tuner_.step(); }
  void zero_gradient() override { tuner_.zero_gradient(); }
  void freeze(std::string const& name, bool frozen) override { tuner_.freeze(name, frozen); }
  [[nodiscard]] step_facts facts() const override {
    if (!last_) return {tuner_.steps(), 0, false, tuner_.learning()};
    return {last_->step,
            last_->rate,
            last_->reselected,
            last_->learning,
            last_->regularizer_loss(),
            last_->gradient_norm(),
            last_->at_or_above()};
  }
  [[nodiscard]] sara::adapter adapter() const override { return tuner_.adapter(); }
  [[nodiscard]] std::vector<std::byte> state() const override { return tuner_.collect_state().bytes(); }
  void load_state(safetensors const& file) override {
    tuner_.load_state(file);
    last_.reset();
  }
  [[nodiscard]] std::int64_t steps() const override { return tuner_.steps(); }
  [[nodiscard]] std::int64_t learning() const override { return tuner_.learning(); }
  [[nodiscard]] std::int64_t selected() const override { return tuner_.selected(); }
  [[nodiscard]] std::vector<tensor_summary> tensors() const override { return tuner_.tensors(); }
  [[nodiscard]] memory_summary memory() const override { return tuner_.memory(); }
  [[nodiscard]] std::vector<double> gradient(std::string const& name) const override {
    auto const column = tuner_.gradient(name);
    return {column.begin(), column.end()};
  }

 private:
  Tuner tuner_;
  std::optional<typename Tuner::report> last_;
};

template <class P>
struct is_backend : std::bool_constant<TensorBackend<P>> {};

template <class Backend, class P>
inline constexpr bool is_regularizer = LowRankRegularizer<P, Backend> && !std::is_same_v<P, no_regularizer>;

/// The policies that fine_tuner takes as they are.
template <class P>
inline constexpr bool passes_through = !is_backend<P>::value && !UpdateRule<P> && !RateSchedule<P>;

/// The backend among the policies, or the host with libtorch's number of threads.
template <class... Policies>
[[nodiscard]] auto backend_of(Policies const&... policies) {
  if constexpr ((is_backend<Policies>::value || ...))
    return sara::detail::pick<is_backend>(0, policies...);
  else
    return host{at::get_num_threads()};
}

/// @throws memory_error  for weights on different devices, in another memory than the backend's, or on another device
/// than a backend that has a number
template <TensorBackend Backend>
void require_reachable(Backend const& backend, named_tensors const& weights) {
  for (auto const& [name, tensor] : weights) {
    auto const where = sara::view(tensor).where();
    sara::detail::require<memory_error>(
        where == Backend::where, "torch optimizer: '", name, "': expected a weight in ", Backend::where,
        ", where the optimizer's backend computes, got one in ", where,
        where == memory::cuda ? ": pass a sara::cuda::device over the stream of the backward pass" : "");
    if constexpr (requires { backend.ordinal(); })
      sara::detail::require<memory_error>(tensor.device().index() == backend.ordinal(), "torch optimizer: '", name,
                                          "': expected a weight on device ", backend.ordinal(),
                                          ", where the optimizer's backend computes, got one on ", tensor.device());
    sara::detail::require<memory_error>(tensor.device() == weights[0].second.device(),
                                        "torch optimizer: expected all weights on ", weights[0].second.device(),
                                        " as '", weights[0].first, "', got '", name, "' on ", tensor.device());
  }
}

/// Makes tuners for a model: again when its weights have moved, or come back from a file.
/// @param groups     of the tensors, and their rates
/// @param own_rules  of each group, or none
template <class... Policies>
[[nodiscard]] std::unique_ptr<any_tuner> make_tuner(named_tensors const& weights,
                                                    std::shared_ptr<group_table const> groups,
                                                    std::vector<std::any> const& own_rules,
                                                    Policies const&... policies) {
  using sara::detail::pick, sara::detail::policy_roles;
  auto const rule = pick<policy_roles::update>(sara::adamw{}, policies...);
  auto const rate = pick<policy_roles::rate>(constant_rate{}, policies...);
  auto const backend = backend_of(policies...);
  require_reachable(backend, weights);
  return std::apply(
      [&](auto const&... others) -> std::unique_ptr<any_tuner> {
        using tuner = decltype(fine_tuner{backend, weights, others...});
        constexpr bool regularizes =
            (is_regularizer<std::remove_cvref_t<decltype(backend)>, std::remove_cvref_t<decltype(others)>> || ...);
        return std::make_unique<tuner_of<tuner, regularizes>>(backend, weights, others...);
      },
      std::tuple_cat(sara::detail::tuple_if<passes_through<Policies>>(policies)...,
                     std::tuple{grouped_rule{std::move(groups), rules_of(own_rules, rule)},
                                factor_only<std::remove_cvref_t<decltype(rate)>>{rate}}));
}

}  // namespace detail
}  // namespace sara::torch
