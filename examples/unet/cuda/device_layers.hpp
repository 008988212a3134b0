// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

#include <cstdint>
#include <span>

#include "../parameter.hpp"
#include "layers/convolution.hpp"
#include "layers/elementwise.hpp"
#include "layers/embedding.hpp"
#include "layers/group_norm.hpp"
#include "layers/heads.hpp"
#include "layers/linear.hpp"
#include "layers/resize.hpp"
#include "planes.hpp"

namespace unet {

/// A device and the threads of the host that feed it.
template <executor Executor>
struct device_machine {
  Executor machine;
  sara::thread_pool& pool;
};

/// The network's layers on a device: dense planes, products and loops by an executor.
template <executor Executor>
struct device_layers {
  using real = typename Executor::real;
  using machine = device_machine<Executor>;
  using memory = plane_memory<Executor>;
  using buffer = typename memory::buffer;
  using activation = planes<real>;
  using const_activation = planes<real const>;
  using matrix = matrix_view<real>;
  using const_matrix = matrix_view<real const>;
  using matrix_memory = device_matrix<Executor>;
  using parameter = device_parameter<real>;
  using linear = device_linear<Executor>;
  using convolution = device_convolution<Executor>;
  using group_norm = device_group_norm<Executor>;
  using attention_heads = device_attention_heads<Executor>;
  using embedding = device_embedding<Executor>;
  static constexpr auto where = Executor::where;

  struct context : device_context<Executor> {
    context(machine& on, memory& of, bool keep) : device_context<Executor>{on.machine, of, keep} {}
  };

  static sara::thread_pool& pool(machine& on) { return on.pool; }
  static memory make_memory(machine& on) { return memory{on.machine}; }

  static void enlarge(context const& run, const_activation const& x, activation const& y) {
    device_enlarge<Executor, real>(run, x, y);
  }
  static void enlarge_backward(context const& run, const_activation const& dy, activation const& dx) {
    device_enlarge_backward<Executor, real>(run, dy, dx);
  }

  /// Pictures [batch, channels, height, width] of the host become an activation, and back.
  static void write(context const& run, std::span<real const> pictures, activation const& to) {
    auto const copy = run.memory.template take_elements<real>(to.size());
    auto* const staged = copy.template as<real>();
    run.machine.upload(pictures, staged);
    exchange(run, staged, to.first, to.grid.batch, to.channels, to.grid);
  }
  static void read(context const& run, const_activation const& from, std::span<real> pictures) {
    auto const copy = run.memory.template take_elements<real>(from.size());
    auto* const staged = copy.template as<real>();
    exchange(run, from.first, staged, from.channels, from.grid.batch, from.grid);
    run.machine.download(static_cast<real const*>(staged), pictures);
  }

  /// Planes as the NCHW tensor that they are.
  static sara::const_tensor_view as_tensor(const_activation const& x) {
    auto const& at = x.grid;
    return {x.first, {at.batch, x.channels, at.height, at.width}, {at.pixels(), x.pitch(), at.width, 1}, where};
  }
  /// Hands the factors of a convolution weight's gradient to a sara::tensor_handle: a convolution of single pixels is a
  /// linear layer on all of them, [pixels, channels], whose product needs no copies.
  template <class Handle>
  static void accumulate(Handle& handle, const_activation const& dy, const_activation const& x,
                         convolution_geometry const& geometry) {
    auto const pixels = [](const_activation const& of) {
      return sara::const_tensor_view{of.first, {of.pitch(), of.channels}, {1, of.pitch()}, where};
    };
    if (geometry.taps() == 1 && geometry.stride == 1)
      handle.accumulate(pixels(dy), pixels(x));
    else
      handle.accumulate(
          as_tensor(dy), as_tensor(x),
          {.stride = {geometry.stride, geometry.stride}, .padding = {geometry.padding(), geometry.padding()}});
  }

  /// The dense gradient of a weight, overwritten.
  static void weight_gradient(context const& run, const_matrix const& dy, const_matrix const& x,
                              matrix const& gradient) {
    device_weight_gradient<Executor, real>(run, dy, x, gradient);
  }
  static void weight_gradient(context const& run, const_activation const& dy, const_activation const& x,
                              convolution_geometry const& geometry, matrix const& gradient) {
    device_weight_gradient<Executor, real>(run, dy, x, geometry, gradient);
  }

 private:
  static void exchange(context const& run, real const* from, real* to, std::int64_t outer, std::int64_t inner,
                       grid const& of) {
    run.machine.launch(outer * inner, of.pixels(), detail::exchange<real>{from, to, outer, inner, of.pixels()});
  }
};

}  // namespace unet
