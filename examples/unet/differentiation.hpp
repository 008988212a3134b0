// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <numeric>
#include <optional>

#include "dataset.hpp"
#include "diffusion.hpp"
#include "network.hpp"
#include "sara_gradients.hpp"

namespace unet {

/// The gradient of the mean loss of a batch, added to the tuner's compact one.
template <class Layers, class Tuner>
class differentiation {
 public:
  /// @param dense  where all entries learn
  differentiation(basic_model<Layers>& net, Tuner& tuner, bool dense)
      : net_{net}, tuner_{tuner}, dense_{dense}, loss_{net} {
    renew();
  }

  /// To be called when the tuner has reselected.
  void renew() { sink_.emplace(net_, tuner_, dense_); }

  /// @return  mean loss
  double operator()(noisy_batch<typename Layers::real> const& batch) {
    auto const losses = loss_.differentiate(batch, image_side, *sink_);
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  }

 private:
  basic_model<Layers>& net_;
  Tuner& tuner_;
  bool dense_;
  basic_velocity_loss<Layers> loss_;
  std::optional<sara_gradients<Layers, typename Tuner::handle>> sink_;
};

}  // namespace unet
