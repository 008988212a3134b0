// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/tensor/view.hpp>

#include <span>
#include <vector>

#include "network.hpp"
#include "parameter.hpp"
#include "weights.hpp"

namespace unet {

/// The sink of fine-tuning: hands the factors of each weight gradient to a sara::fine_tuner, which takes from them the
/// entries that learn. No dense weight gradient exists, unless all entries learn: there sampling entry by entry would
/// be a detour, so it makes one layer's at a time.
///
/// It holds one handle for each parameter, so after a reselection or a loaded state a new one is needed.
template <class Layers, class Handle>
class sara_gradients {
  using real = typename Layers::real;
  using described = typename Layers::parameter;
  using matrix = typename Layers::const_matrix;
  using activation = typename Layers::const_activation;

 public:
  /// @param tuner  of the weights of `from`, under the same names
  /// @param dense  gives it dense gradients
  template <class Tuner>
  sara_gradients(basic_model<Layers>& from, Tuner& tuner, bool dense = false) : run_{from.run()}, dense_{dense} {
    for (auto const* p : from.parameters()) handles_.push_back(tuner[p->name]);
  }

  [[nodiscard]] bool wants(described const& p) const { return handles_[p.index].learns(); }
  void linear(described const& p, matrix dy, matrix x) {
    if (dense_) {
      auto const gradient = whole_.take(run_, dy.columns, x.columns);
      Layers::weight_gradient(run_, dy, x, gradient);
      handles_[p.index].accumulate(as_tensor(gradient.data, p));
    } else {
      handles_[p.index].accumulate(as_tensor(dy), as_tensor(x));
    }
  }
  void convolution(described const& p, activation dy, activation x, convolution_geometry const& geometry) {
    if (dense_) {
      auto const gradient = whole_.take(run_, dy.channels, x.channels * geometry.taps());
      Layers::weight_gradient(run_, dy, x, geometry, gradient);
      handles_[p.index].accumulate(as_tensor(gradient.data, p));
    } else {
      Layers::accumulate(handles_[p.index], dy, x, geometry);
    }
  }
  void dense(described const& p, std::span<real const> gradient) {
    handles_[p.index].accumulate(as_tensor(gradient.data(), p));
  }

 private:
  [[nodiscard]] static sara::const_tensor_view as_tensor(matrix const& x) {
    return {x.data, {x.rows, x.columns}, Layers::where};
  }
  [[nodiscard]] static sara::const_tensor_view as_tensor(real const* values, described const& p) {
    return {values, extents_of(p), Layers::where};
  }

  typename Layers::context run_;
  bool dense_;
  typename Layers::matrix_memory whole_;  // one layer's dense gradient
  std::vector<Handle> handles_;           // by the parameter's index
};

template <class Layers, class Tuner>
sara_gradients(basic_model<Layers>&, Tuner&) -> sara_gradients<Layers, typename Tuner::handle>;

}  // namespace unet
