// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include <sara/error.hpp>
#include <sara/update/concept.hpp>
#include <sara/update/square_root.hpp>

namespace sara {

/// Adam with decoupled weight decay, as torch.optim.AdamW.  (Loshchilov and Hutter, arXiv 1711.05101; SaRA, eq. 3)
///
///     p ← p · (1 - rate · decay);   m ← β₁ m + (1 - β₁) g;   v ← β₂ v + (1 - β₂) g²
///     p ← p - rate / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
///
/// With amsgrad, v in the last line is its largest so far. The decay pulls values to zero, not to their base weights.
/// About 14 flops and 28 bytes an entry in float32. Example: tests/update/adamw.cpp
struct adamw {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;

  [[nodiscard]] int moments() const noexcept { return amsgrad ? 3 : 2; }

  template <Real R>
  struct kernel_type {
    R keep, beta1, rest1, beta2, rest2, step_size, root_correction, epsilon;
    bool amsgrad;

    static constexpr bool on_lanes = true;
    template <class V, class Moments>
    SARA_HOST_DEVICE void operator()(V& value, V const& gradient, Moments moments) const {
      V const m = moments[0] = beta1 * moments[0] + rest1 * gradient;
      V v = moments[1] = beta2 * moments[1] + rest2 * gradient * gradient;
      if (amsgrad) v = moments[2] = moments[2] < v ? v : moments[2];
      take_square_root(v);
      value = value * keep - step_size * m / (v * root_correction + epsilon);
    }
  };

  /// @throws value_error  for a β outside [0, 1) or a negative ε, decay or rate
  template <Real R>
  [[nodiscard]] kernel_type<R> kernel(update_step const& s) const {
    detail::require<value_error>(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1,
                                 "adamw: expected betas from 0 to below 1, got ", beta1, " and ", beta2);
    detail::require<value_error>(epsilon >= 0 && weight_decay >= 0 && s.rate >= 0,
                                 "adamw: expected epsilon, weight decay and rate of at least 0, got ", epsilon, ", ",
                                 weight_decay, " and ", s.rate);
    auto const t = static_cast<double>(s.t);
    return {static_cast<R>(1 - s.rate * weight_decay),
            static_cast<R>(beta1),
            static_cast<R>(1 - beta1),
            static_cast<R>(beta2),
            static_cast<R>(1 - beta2),
            static_cast<R>(s.rate / (1 - std::pow(beta1, t))),
            static_cast<R>(1 / std::sqrt(1 - std::pow(beta2, t))),
            static_cast<R>(epsilon),
            amsgrad};
  }
};

}  // namespace sara
