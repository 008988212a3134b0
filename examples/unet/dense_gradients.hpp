// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "layers/convolution.hpp"
#include "layers/linear.hpp"
#include "model.hpp"
#include "parameter.hpp"

namespace unet {

/// The sink of pre-training and of full fine-tuning: a dense gradient for every parameter, added up until `clear`.
/// @par Memory  as much as the parameters
template <class Real>
class dense_gradients {
 public:
  explicit dense_gradients(model<Real>& of) : run_{of.pool(), of.memory()} {
    for (auto const* p : of.parameters()) gradients_.emplace_back(p->values.size());
  }

  [[nodiscard]] bool wants(parameter<Real> const&) const { return true; }
  void linear(parameter<Real> const& p, matrix_view<Real const> dy, matrix_view<Real const> x) {
    as_eigen(matrix_view<Real>{gradients_[p.index].data(), dy.columns, x.columns}).noalias() +=
        as_eigen(dy).transpose() * as_eigen(x);
  }
  void convolution(parameter<Real> const& p, strips<Real const> dy, strips<Real const> x,
                   convolution_geometry const& geometry) {
    convolution_weight_gradient<Real>(run_, dy, x, geometry, gradients_[p.index]);
  }
  void dense(parameter<Real> const& p, std::span<Real const> gradient) {
    auto& sum = gradients_[p.index];
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += gradient[i];
  }

  [[nodiscard]] std::span<Real> operator[](std::size_t index) { return gradients_[index]; }

  void clear() {
    run_.pool.parallel_for(static_cast<std::int64_t>(gradients_.size()), [this](std::int64_t i) {
      auto& g = gradients_[static_cast<std::size_t>(i)];
      std::fill(g.begin(), g.end(), Real{0});
    });
  }

  /// Euclidean norm over all parameters, summed in a fixed order.
  [[nodiscard]] double norm() const {
    std::vector<double> squares(gradients_.size());
    run_.pool.parallel_for(static_cast<std::int64_t>(squares.size()), [&](std::int64_t i) {
      auto const& g = gradients_[static_cast<std::size_t>(i)];
      squares[static_cast<std::size_t>(i)] =
          static_cast<double>(dot_of<Real>(g.data(), g.data(), static_cast<std::int64_t>(g.size())));
    });
    double total = 0;
    for (double const square : squares) total += square;
    return std::sqrt(total);
  }

 private:
  context<Real> run_;
  std::vector<std::vector<Real>> gradients_;
};

}  // namespace unet
