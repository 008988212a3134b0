// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/error.hpp>
#include <sara/update/concept.hpp>

namespace sara {

/// Stochastic gradient descent with momentum, as torch.optim.SGD.
///
///     g ← g + decay · p;   b ← momentum · b + g;   p ← p - rate · b      (nesterov: p - rate · (g + momentum · b))
///
/// Without momentum no state is kept.
struct sgd {
  double momentum = 0;
  double weight_decay = 0;
  bool nesterov = false;

  [[nodiscard]] int moments() const noexcept { return momentum == 0 ? 0 : 1; }

  template <Real R>
  struct kernel_type {
    R rate, momentum, weight_decay;
    bool nesterov;

    static constexpr bool on_lanes = true;
    template <class V, class Moments>
    SARA_HOST_DEVICE void operator()(V& value, V const& gradient, Moments moments) const {
      V g = gradient + weight_decay * value;
      if (momentum != 0) {
        V const b = moments[0] = momentum * moments[0] + g;
        g = nesterov ? g + momentum * b : b;
      }
      value -= rate * g;
    }
  };

  /// @throws value_error  for a momentum outside [0, 1), a negative decay or rate, or nesterov without momentum
  template <Real R>
  [[nodiscard]] kernel_type<R> kernel(update_step const& s) const {
    detail::require<value_error>(momentum >= 0 && momentum < 1, "sgd: expected a momentum from 0 to below 1, got ",
                                 momentum);
    detail::require<value_error>(weight_decay >= 0 && s.rate >= 0,
                                 "sgd: expected weight decay and rate of at least 0, got ", weight_decay, " and ",
                                 s.rate);
    detail::require<value_error>(!nesterov || momentum > 0, "sgd: expected a momentum for nesterov, got 0");
    return {static_cast<R>(s.rate), static_cast<R>(momentum), static_cast<R>(weight_decay), nesterov};
  }
};

}  // namespace sara
