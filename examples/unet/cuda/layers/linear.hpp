// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "../../parameter.hpp"
#include "../planes.hpp"
#include "elementwise.hpp"

namespace unet {

/// dW = dYᵀ X, overwritten.
/// @param dy  [rows, out]
/// @param x   [rows, in]
template <executor Executor, class Real>
void device_weight_gradient(device_context<Executor> const& run, matrix_view<Real const> const& dy,
                            matrix_view<Real const> const& x, matrix_view<Real> const& dw) {
  run.machine.multiply(matrix_product<Real>{.rows = dy.columns,
                                            .columns = x.columns,
                                            .depth = dy.rows,
                                            .a = {dy.data, dy.columns, true},
                                            .b = {x.data, x.columns},
                                            .c = dw.data,
                                            .pitch = dw.columns});
}

/// Y = X Wᵀ + b on the rows of X, on a device.
template <executor Executor>
class device_linear {
  using real = typename Executor::real;
  using context = device_context<Executor>;
  using matrix = matrix_view<real>;
  using const_matrix = matrix_view<real const>;

 public:
  device_linear(std::string const& name, std::int64_t in, std::int64_t out)
      : weight{name + ".weight", {out, in}}, bias{name + ".bias", {out}} {}

  /// @param x  [rows, in]
  /// @param y  [rows, out]
  void forward(context const& run, const_matrix x, matrix y) const {
    run.machine.launch(y.rows, y.columns, detail::fill_columns<real>{bias.data(), y.data, y.columns});
    run.machine.multiply(matrix_product<real>{.rows = y.rows,
                                              .columns = y.columns,
                                              .depth = x.columns,
                                              .a = {x.data, x.columns},
                                              .b = {weight.data(), x.columns, true},
                                              .c = y.data,
                                              .pitch = y.columns,
                                              .beta = 1});
  }

  /// dX = dY W, added to dx if `accumulate`.
  void backward_input(context const& run, const_matrix dy, matrix dx, bool accumulate = false) const {
    run.machine.multiply(matrix_product<real>{.rows = dx.rows,
                                              .columns = dx.columns,
                                              .depth = dy.columns,
                                              .a = {dy.data, dy.columns},
                                              .b = {weight.data(), dx.columns},
                                              .c = dx.data,
                                              .pitch = dx.columns,
                                              .beta = accumulate ? real{1} : real{0}});
  }

  /// @param x  the input of the forward pass
  template <class Sink>
  void backward_weight(context const& run, const_matrix dy, const_matrix x, Sink& sink) {
    if (sink.wants(weight)) sink.linear(weight, dy, x);
    if (!sink.wants(bias)) return;
    auto const sums = run.memory.template take_elements<real>(dy.columns);
    run.machine.reduce(dy.columns, dy.rows, detail::entry<real>{dy.data, 1, dy.columns},
                       detail::store_sum<real>{sums.template as<real>()});
    sink.dense(bias, std::span<real const>{sums.template as<real>(), static_cast<std::size_t>(dy.columns)});
  }

  template <class F>
  void each_parameter(F&& f) {
    f(weight);
    f(bias);
  }

  device_parameter<real> weight;
  device_parameter<real> bias;
};

}  // namespace unet
