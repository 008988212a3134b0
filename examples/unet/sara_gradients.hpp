// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/tensor/view.hpp>

#include <span>
#include <vector>

#include "model.hpp"
#include "parameter.hpp"
#include "weights.hpp"

namespace unet {

/// Strips as the NCHW tensor that they are.
template <class Real>
[[nodiscard]] sara::const_tensor_view as_tensor(strips<Real const> const& x) {
  auto const& where = x.grid;
  return {
      x.first, {where.batch, x.channels, where.height, where.width}, {where.image_pitch(), x.pitch, where.pitch(), 1}};
}
template <class Real>
[[nodiscard]] sara::const_tensor_view as_tensor(matrix_view<Real const> const& x) {
  return {x.data, {x.rows, x.columns}};
}
/// Values of a parameter, or as many numbers about them.
template <class Real>
[[nodiscard]] sara::const_tensor_view as_tensor(std::span<Real const> values, parameter<Real> const& p) {
  return {values.data(), extents_of(p)};
}

/// The sink of fine-tuning: hands the factors of each weight gradient to a sara::fine_tuner, which takes from them the
/// entries that learn. No dense weight gradient exists.
///
/// It holds one handle for each parameter, so after a reselection or a loaded state a new one is needed.
template <class Real, class Handle>
class sara_gradients {
 public:
  /// @param tuner  of the weights of `from`, under the same names
  template <class Tuner>
  sara_gradients(model<Real> const& from, Tuner& tuner) {
    for (auto const* p : from.parameters()) handles_.push_back(tuner[p->name]);
  }

  [[nodiscard]] bool wants(parameter<Real> const& p) const { return handles_[p.index].learns(); }
  void linear(parameter<Real> const& p, matrix_view<Real const> dy, matrix_view<Real const> x) {
    handles_[p.index].accumulate(as_tensor(dy), as_tensor(x));
  }
  void convolution(parameter<Real> const& p, strips<Real const> dy, strips<Real const> x,
                   convolution_geometry const& geometry) {
    handles_[p.index].accumulate(
        as_tensor(dy), as_tensor(x),
        {.stride = {geometry.stride, geometry.stride}, .padding = {geometry.padding(), geometry.padding()}});
  }
  void dense(parameter<Real> const& p, std::span<Real const> gradient) {
    handles_[p.index].accumulate(as_tensor(gradient, p));
  }

 private:
  std::vector<Handle> handles_;  // by the parameter's index
};

template <class Real, class Tuner>
sara_gradients(model<Real> const&, Tuner&) -> sara_gradients<Real, typename Tuner::handle>;

}  // namespace unet
