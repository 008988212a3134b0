// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/version.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <sara/backend/convolution.hpp>

namespace sara::torch::detail {

/// Who takes the gradients of weights, each a number, out of a backward pass.
class gradient_taker {
 public:
  gradient_taker() = default;
  gradient_taker(gradient_taker const&) = delete;
  gradient_taker& operator=(gradient_taker const&) = delete;
  virtual ~gradient_taker() = default;

  /// Whether the weight, which requires a gradient, has use for it.
  [[nodiscard]] virtual bool learns(std::size_t weight) = 0;
  /// A gradient as autograd made it, dense or sparse; it may be freed afterwards.
  virtual void take(std::size_t weight, at::Tensor const& gradient) = 0;
  /// Of y = x Wᵀ: dY [..., out], X [..., in].
  virtual void take_linear(std::size_t weight, at::Tensor const& dy, at::Tensor const& x) = 0;
  /// Of a convolution: dY and X in NCHW.
  virtual void take_conv2d(std::size_t weight, at::Tensor const& dy, at::Tensor const& x,
                           conv2d_geometry const& geometry) = 0;
  /// Of rows looked up: dY [tokens, width], index [tokens].
  virtual void take_rows(std::size_t weight, at::Tensor const& dy, at::Tensor const& index) = 0;
  /// All layers that use the weight have had their turn in this backward pass.
  virtual void finish(std::size_t weight) = 0;
};

/// The gradient accumulator of one leaf, in the place of libtorch's: instead of adding to `.grad` it hands the gradient
/// to its taker, which gathers the entries that learn, and lets it go.
///
/// It has the highest sequence number, as libtorch's accumulators have, so it runs as soon as its gradient is complete
/// and before any other layer's backward: one or two dense gradients are alive at a time, and the sum of a weight that
/// several layers share.
///
/// Leaves hold their accumulators weakly; who made this one holds it. When it is gone, the leaf gets an ordinary
/// accumulator at its next use. All that asks `is_leaf()`, `requires_grad()` or `grad_fn()` sees an ordinary leaf.
class gather_node final : public ::torch::autograd::Node {
 public:
  gather_node(at::Tensor weight, std::size_t number, std::weak_ptr<gradient_taker> taker)
      : Node{std::numeric_limits<std::uint64_t>::max()},
        weight_{std::move(weight)},
        number_{number},
        taker_{std::move(taker)} {
    add_input_metadata(weight_);
  }

  [[nodiscard]] std::string name() const override { return "sara::torch::gather"; }
  [[nodiscard]] at::Tensor const& weight() const noexcept { return weight_; }
  [[nodiscard]] std::size_t number() const noexcept { return number_; }
  /// Null once the optimizer is gone.
  [[nodiscard]] std::shared_ptr<gradient_taker> taker() const { return taker_.lock(); }

  /// The gather_node of a leaf, whether its taker lives or not; null for any other tensor.
  [[nodiscard]] static std::shared_ptr<gather_node> of(at::Tensor const& leaf) {
    return std::dynamic_pointer_cast<gather_node>(::torch::autograd::impl::try_get_grad_accumulator(leaf));
  }

#if TORCH_VERSION_MAJOR >= 2
  /// Hooks of the leaf, which the engine calls before apply.
  std::vector<std::unique_ptr<::torch::autograd::FunctionPreHook>>& tensor_pre_hooks() noexcept override {
    return ::torch::autograd::impl::hooks(weight_);
  }
#endif

 protected:
  ::torch::autograd::variable_list apply(::torch::autograd::variable_list&& gradients) override {
    auto gradient = std::move(gradients.at(0));
    gradients.clear();
    if (!weight_.requires_grad()) return {};
#if TORCH_VERSION_MAJOR < 2
    if (gradient.defined())
      for (auto const& hook : ::torch::autograd::impl::hooks(weight_)) gradient = (*hook)({gradient}).at(0);
#endif
    if (auto const taker = taker_.lock()) {
      if (gradient.defined()) taker->take(number_, gradient);
      gradient.reset();
      taker->finish(number_);
      return {};
    }
    if (!gradient.defined()) return {};   // of layers that sampled it
    std::scoped_lock const lock{mutex_};  // an ordinary leaf again, in a graph from before
    at::NoGradGuard const no_grad;
    auto& sum = weight_.mutable_grad();
    sum = sum.defined() ? sum + gradient : gradient.clone();  // which others may hold
    return {};
  }

 private:
  at::Tensor weight_;
  std::size_t number_;
  std::weak_ptr<gradient_taker> taker_;
  std::mutex mutex_;  // of .grad, as libtorch's accumulators have one
};

}  // namespace sara::torch::detail
