// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <numeric>
#include <optional>
#include <span>

#include "dataset.hpp"
#include "dense_gradients.hpp"
#include "diffusion.hpp"
#include "sara_gradients.hpp"
#include "weights.hpp"

namespace unet {

/// The gradient of the mean loss of a batch, added to the tuner's compact one.
template <class Tuner>
class differentiation {
 public:
  differentiation(model<float>& net, Tuner& tuner, bool full) : net_{net}, tuner_{tuner}, loss_{net} {
    if (full)
      dense_.emplace(net);
    else
      sampled_.emplace(net, tuner);
  }

  /// To be called when the tuner has reselected.
  void renew() {
    if (sampled_) sampled_.emplace(net_, tuner_);
  }

  /// @return  mean loss
  double operator()(noisy_batch<float> const& batch) {
    std::span<double const> losses;
    if (sampled_) {
      losses = loss_.differentiate(batch, image_side, *sampled_);
    } else {
      // Where everything learns, sampling entry by entry would be a detour.
      dense_->clear();
      losses = loss_.differentiate(batch, image_side, *dense_);
      for (auto const* p : net_.parameters()) tuner_[p->name].accumulate(as_tensor<float>((*dense_)[p->index], *p));
    }
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  }

 private:
  model<float>& net_;
  Tuner& tuner_;
  velocity_loss<float> loss_;
  std::optional<sara_gradients<float, typename Tuner::handle>> sampled_;
  std::optional<dense_gradients<float>> dense_;
};

}  // namespace unet
