// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <string>
#include <vector>

#include "../parameter.hpp"

namespace unet {

template <class Real>
using row_major = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class Real>
[[nodiscard]] auto as_eigen(matrix_view<Real> const& m) {
  return Eigen::Map<row_major<Real>>{m.data, m.rows, m.columns};
}
template <class Real>
[[nodiscard]] auto as_eigen(matrix_view<Real const> const& m) {
  return Eigen::Map<row_major<Real> const>{m.data, m.rows, m.columns};
}

/// Y = X Wᵀ + b on the rows of X.
template <class Real>
class linear {
 public:
  linear(std::string const& name, std::int64_t in, std::int64_t out)
      : weight{name + ".weight", {out, in}, {0, 1 / std::sqrt(static_cast<double>(in))}},
        bias{name + ".bias", {out}, {0, 1 / std::sqrt(static_cast<double>(in))}} {}

  /// @param x  [rows, in]
  /// @param y  [rows, out]
  void forward(context<Real> const&, matrix_view<Real const> x, matrix_view<Real> y) const {
    auto result = as_eigen(y);
    result.noalias() = as_eigen(x) * weights().transpose();
    result.rowwise() += Eigen::Map<Eigen::RowVectorX<Real> const>{bias.values.data(), y.columns};
  }

  /// dX = dY W, added to dx if `accumulate`.
  void backward_input(context<Real> const&, matrix_view<Real const> dy, matrix_view<Real> dx,
                      bool accumulate = false) const {
    auto result = as_eigen(dx);
    if (!accumulate) result.setZero();
    result.noalias() += as_eigen(dy) * weights();
  }

  /// @param x  the input of the forward pass
  template <gradient_sink<Real> Sink>
  void backward_weight(context<Real> const&, matrix_view<Real const> dy, matrix_view<Real const> x, Sink& sink) {
    if (sink.wants(weight)) sink.linear(weight, dy, x);
    if (!sink.wants(bias)) return;
    bias_gradient_.resize(bias.values.size());
    Eigen::Map<Eigen::RowVectorX<Real>>{bias_gradient_.data(), dy.columns} = as_eigen(dy).colwise().sum();
    sink.dense(bias, bias_gradient_);
  }

  template <class F>
  void each_parameter(F&& f) {
    f(weight);
    f(bias);
  }

  parameter<Real> weight;
  parameter<Real> bias;

 private:
  [[nodiscard]] auto weights() const {
    return as_eigen(matrix_view<Real const>{weight.values.data(), weight.shape[0], weight.shape[1]});
  }

  std::vector<Real> bias_gradient_;
};

}  // namespace unet
