// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace finetune {

/// A ConvNet that tells the class of a 32×32 picture. It knows nothing of how it will be fine-tuned.
[[nodiscard]] inline torch::nn::Sequential make_network(std::int64_t classes) {
  using namespace torch::nn;
  auto const conv = [](std::int64_t in, std::int64_t out) { return Conv2d(Conv2dOptions(in, out, 3).padding(1)); };
  auto const halve = [] { return MaxPool2d(2); };
  return Sequential(conv(3, 32), GroupNorm(8, 32), ReLU(), conv(32, 32), GroupNorm(8, 32), ReLU(), halve(),
                    conv(32, 64), GroupNorm(8, 64), ReLU(), halve(), conv(64, 128), GroupNorm(8, 128), ReLU(), halve(),
                    Flatten(), Linear(128 * 4 * 4, 256), ReLU(), Linear(256, classes));
}

/// y = base(x) + B(A(x)) beside a frozen layer: LoRA, with A as large as the layer's kernel and B without.
class low_rank_impl : public torch::nn::Module {
 public:
  low_rank_impl(torch::nn::AnyModule base, std::int64_t rank) : base_{std::move(base)} {
    using namespace torch::nn;
    register_module("base", base_.ptr());
    for (auto const& p : base_.ptr()->parameters()) p.requires_grad_(false);
    if (auto const* linear = base_.ptr()->as<Linear>()) {
      auto const& o = linear->options;
      chain_ = Sequential(Linear(LinearOptions(o.in_features(), rank).bias(false)),
                          Linear(LinearOptions(rank, o.out_features()).bias(false)));
    } else {
      auto const& o = base_.ptr()->as<Conv2d>()->options;
      chain_ = Sequential(Conv2d(Conv2dOptions(o.in_channels(), rank, o.kernel_size()).padding(1).bias(false)),
                          Conv2d(Conv2dOptions(rank, o.out_channels(), 1).bias(false)));
    }
    register_module("chain", chain_);
    torch::nn::init::zeros_(chain_->ptr(1)->parameters()[0]);
  }
  at::Tensor forward(at::Tensor const& x) { return base_.forward(x) + chain_->forward(x); }
  [[nodiscard]] std::vector<at::Tensor> learned() const { return chain_->parameters(); }

 private:
  torch::nn::AnyModule base_;
  torch::nn::Sequential chain_{nullptr};
};

/// Freezes a network and puts low-rank layers beside its convolutions and linear layers.
/// @return what learns
inline std::vector<at::Tensor> add_low_rank(torch::nn::SequentialImpl& network, std::int64_t rank) {
  std::vector<at::Tensor> learned;
  for (auto const& p : network.parameters()) p.requires_grad_(false);
  for (auto& layer : network) {
    if (!layer.ptr()->as<torch::nn::Linear>() && !layer.ptr()->as<torch::nn::Conv2d>()) continue;
    auto const wrapped = std::make_shared<low_rank_impl>(layer, rank);
    for (auto const& p : wrapped->learned()) learned.push_back(p);
    layer = torch::nn::AnyModule{wrapped};
  }
  return learned;
}

/// Frees what an optimizer's parameters have as gradients: zero_grad of libtorch 1 fills them with zeros.
inline void drop_gradients(torch::optim::Optimizer& optimizer) {
  for (auto& group : optimizer.param_groups())
    for (auto& p : group.params()) p.mutable_grad().reset();
}

}  // namespace finetune
