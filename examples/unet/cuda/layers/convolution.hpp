// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "../../parameter.hpp"
#include "../planes.hpp"
#include "elementwise.hpp"

namespace unet {

namespace detail {

/// How a convolution maps pixels: input [height, width], output [out_height, out_width]. 32 bits, as divisions by these
/// are most of what the bodies below do.
struct pixel_map {
  std::int32_t height, width, out_height, out_width, kernel, stride, padding;

  pixel_map(grid const& in, grid const& out, convolution_geometry const& g)
      : height{static_cast<std::int32_t>(in.height)},
        width{static_cast<std::int32_t>(in.width)},
        out_height{static_cast<std::int32_t>(out.height)},
        out_width{static_cast<std::int32_t>(out.width)},
        kernel{static_cast<std::int32_t>(g.kernel)},
        stride{static_cast<std::int32_t>(g.stride)},
        padding{static_cast<std::int32_t>(g.padding())} {}
};

/// columns[(i, tap), p] = what output pixel p reads of input channel i at that tap: zero outside of the image.
template <class Real, class Operand>
struct gather_taps {
  pixel_map map;
  Real const* x;               // of the first of these images
  std::int64_t channel_pitch;  // of x
  Operand* columns;
  std::int64_t pitch;  // output pixels of these images

  SARA_HOST_DEVICE void operator()(std::int64_t k, std::int32_t p) const {
    auto const row_of_columns = static_cast<std::int32_t>(k), taps = map.kernel * map.kernel;
    auto const i = row_of_columns / taps, tap = row_of_columns % taps;
    auto const pixels = map.out_height * map.out_width;
    auto const n = p / pixels, pixel = p % pixels;
    auto const row = pixel / map.out_width * map.stride + tap / map.kernel - map.padding;
    auto const column = pixel % map.out_width * map.stride + tap % map.kernel - map.padding;
    bool const inside = 0 <= row && row < map.height && 0 <= column && column < map.width;
    columns[k * pitch + p] = as_operand<Operand>(
        inside ? x[i * channel_pitch + static_cast<std::int64_t>(n * map.height + row) * map.width + column] : Real{0});
  }
};

/// dx[i, q] = the sum of the columns' gradients over all that read input pixel q: the adjoint of `gather_taps`, one
/// sum a pixel, so that nothing is added to by two threads.
template <class Real>
struct sum_taps {
  pixel_map map;
  Real const* columns;
  std::int64_t pitch;
  Real* dx;
  std::int64_t channel_pitch;
  bool accumulate;

  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int32_t q) const {
    auto const pixels = map.height * map.width;
    auto const n = q / pixels, pixel = q % pixels;
    auto const row = pixel / map.width + map.padding, column = pixel % map.width + map.padding;
    Real sum{0};
    for (std::int32_t tap = 0; tap < map.kernel * map.kernel; ++tap) {
      auto const r = row - tap / map.kernel, c = column - tap % map.kernel;
      if (r < 0 || c < 0 || r % map.stride != 0 || c % map.stride != 0) continue;
      auto const from_row = r / map.stride, from_column = c / map.stride;
      if (from_row >= map.out_height || from_column >= map.out_width) continue;
      sum += columns[(i * map.kernel * map.kernel + tap) * pitch +
                     static_cast<std::int64_t>(n * map.out_height + from_row) * map.out_width + from_column];
    }
    auto& to = dx[i * channel_pitch + q];
    to = accumulate ? to + sum : sum;
  }
};

/// Images whose columns are made at a time: as many as the machine has room for, one at least.
template <executor Executor>
[[nodiscard]] std::int64_t images_at_once(Executor const& machine, std::int64_t batch, std::int64_t numbers_of_image) {
  return std::clamp(machine.column_room() / std::max<std::int64_t>(numbers_of_image, 1), std::int64_t{1},
                    std::max<std::int64_t>(batch, 1));
}

/// Calls f.operator()<Operand>() with the type to which convolutions round what they multiply.
template <executor Executor, class F>
void with_operand(Executor const& machine, F&& f) {
  if constexpr (std::same_as<typename Executor::real, float>) {
    if (machine.narrow()) return f.template operator()<sara::bfloat16>();
  }
  f.template operator()<typename Executor::real>();
}

/// A matrix as operands: itself, or a rounded copy that lives as long as this.
template <executor Executor, class Operand>
class operands {
  using real = typename Executor::real;

 public:
  operands(device_context<Executor> const& run, real const* from, std::int64_t rows, std::int64_t columns) {
    if constexpr (std::same_as<Operand, real>) {
      data_ = from;
    } else {
      copy_ = run.memory.template take_elements<Operand>(rows * columns);
      auto* const to = copy_.template as<Operand>();
      run.machine.launch(rows, columns, convert<real, Operand>{from, to, columns});
      data_ = to;
    }
  }
  [[nodiscard]] Operand const* data() const { return data_; }

 private:
  typename plane_memory<Executor>::block copy_;
  Operand const* data_ = nullptr;
};

/// The columns of some images of a convolution's input, [in · taps, output pixels]; the input itself where each pixel
/// is read once and nothing is rounded.
template <executor Executor, class Operand>
class image_columns {
  using real = typename Executor::real;

 public:
  image_columns(device_context<Executor> const& run, planes<real const> const& x, grid const& out,
                convolution_geometry const& geometry, std::int64_t images)
      : run_{run}, x_{x}, map_{x.grid, out, geometry}, geometry_{geometry}, pixels_{out.pixels()} {
    if (as_it_is()) return;
    copy_ = run.memory.template take_elements<Operand>(x.channels * geometry.taps() * images * pixels_);
  }

  /// @return  those of `count` images
  [[nodiscard]] factor<Operand> of(std::int64_t first, std::int64_t count) const {
    auto const* const from = x_.first + first * x_.grid.pixels();
    if constexpr (std::same_as<Operand, real>) {
      if (as_it_is()) return {from, x_.pitch()};
    }
    auto* const to = copy_.template as<Operand>();
    run_.machine.launch(x_.channels * geometry_.taps(), count * pixels_,
                        gather_taps<real, Operand>{map_, from, x_.pitch(), to, count * pixels_});
    return {to, count * pixels_};
  }

 private:
  [[nodiscard]] bool as_it_is() const {
    return std::same_as<Operand, real> && geometry_.taps() == 1 && geometry_.stride == 1;
  }

  device_context<Executor> const& run_;
  planes<real const> x_;
  pixel_map map_;
  convolution_geometry geometry_;
  std::int64_t pixels_;
  typename plane_memory<Executor>::block copy_;
};

}  // namespace detail

/// The dense gradient of a convolution's weight, [out, in · taps], overwritten.
template <executor Executor, class Real>
void device_weight_gradient(device_context<Executor> const& run, planes<Real const> const& dy,
                            planes<Real const> const& x, convolution_geometry const& geometry,
                            matrix_view<Real> const& dw) {
  detail::with_operand(run.machine, [&]<class Operand>() {
    auto const pixels = dy.grid.pixels();
    auto const step = detail::images_at_once(run.machine, dy.grid.batch, dw.columns * pixels);
    detail::image_columns<Executor, Operand> const columns{run, x, dy.grid, geometry, step};
    detail::operands<Executor, Operand> const outputs{run, dy.first, dy.channels, dy.pitch()};
    for (std::int64_t first = 0; first < dy.grid.batch; first += step) {
      auto const count = std::min(step, dy.grid.batch - first);
      auto b = columns.of(first, count);
      b.transposed = true;
      run.machine.multiply(matrix_product<Real, Operand>{.rows = dw.rows,
                                                         .columns = dw.columns,
                                                         .depth = count * pixels,
                                                         .a = {outputs.data() + first * pixels, dy.pitch()},
                                                         .b = b,
                                                         .c = dw.data,
                                                         .pitch = dw.columns,
                                                         .beta = first == 0 ? Real{0} : Real{1}});
    }
  });
}

/// Y = W ∗ X + b on a device, kernel 1 or 3, stride 1 or 2 (kernel 3, even sizes): a product of the weight and the
/// columns that its taps read, some images at a time.
template <executor Executor>
class device_convolution {
  using real = typename Executor::real;
  using context = device_context<Executor>;
  using activation = planes<real>;
  using const_activation = planes<real const>;

 public:
  device_convolution(std::string const& name, std::int64_t in, std::int64_t out, convolution_geometry geometry,
                     bool = false)
      : geometry_{geometry},
        in_{in},
        out_{out},
        weight{name + ".weight", {out, in, geometry.kernel, geometry.kernel}},
        bias{name + ".bias", {out}} {}

  /// @param y  [batch, out, height / stride, width / stride]
  /// @param plus  what is added to y, maybe y itself; nothing where its `first` is null
  void forward(context const& run, const_activation const& x, activation const& y, const_activation const& plus = {}) {
    run.machine.launch(out_, y.pitch(), detail::fill_rows<real>{bias.data(), y.first, y.pitch(), plus.first});
    detail::with_operand(run.machine, [&]<class Operand>() {
      auto const depth = in_ * geometry_.taps(), pixels = y.grid.pixels();
      auto const step = detail::images_at_once(run.machine, y.grid.batch, depth * pixels);
      detail::operands<Executor, Operand> const weights{run, weight.data(), out_, depth};
      detail::image_columns<Executor, Operand> const columns{run, x, y.grid, geometry_, step};
      for (std::int64_t first = 0; first < y.grid.batch; first += step) {
        auto const count = std::min(step, y.grid.batch - first);
        run.machine.multiply(matrix_product<real, Operand>{.rows = out_,
                                                           .columns = count * pixels,
                                                           .depth = depth,
                                                           .a = {weights.data(), depth},
                                                           .b = columns.of(first, count),
                                                           .c = y.first + first * pixels,
                                                           .pitch = y.pitch(),
                                                           .beta = 1});
      }
    });
  }

  /// Gradient of the input alone.
  void backward_input(context const& run, const_activation const& dy, activation const& dx, bool accumulate = false) {
    bool const one_to_one = geometry_.taps() == 1 && geometry_.stride == 1;
    detail::pixel_map const map{dx.grid, dy.grid, geometry_};
    detail::with_operand(run.machine, [&]<class Operand>() {
      auto const depth = in_ * geometry_.taps(), pixels = dy.grid.pixels();
      auto const step = detail::images_at_once(run.machine, dy.grid.batch, depth * pixels);
      detail::operands<Executor, Operand> const weights{run, weight.data(), out_, depth},
          outputs{run, dy.first, out_, dy.pitch()};
      auto const columns = one_to_one ? block{} : run.memory.template take_elements<real>(depth * step * pixels);
      for (std::int64_t first = 0; first < dy.grid.batch; first += step) {
        auto const count = std::min(step, dy.grid.batch - first);
        auto* const to = dx.first + first * dx.grid.pixels();
        matrix_product<real, Operand> product{.rows = depth,
                                              .columns = count * pixels,
                                              .depth = out_,
                                              .a = {weights.data(), depth, true},
                                              .b = {outputs.data() + first * pixels, dy.pitch()}};
        if (one_to_one) {
          product.c = to;
          product.pitch = dx.pitch();
          product.beta = accumulate ? real{1} : real{0};
          run.machine.multiply(product);
        } else {
          product.c = columns.template as<real>();
          product.pitch = count * pixels;
          run.machine.multiply(product);
          run.machine.launch(in_, count * dx.grid.pixels(),
                             detail::sum_taps<real>{map, product.c, product.pitch, to, dx.pitch(), accumulate});
        }
      }
    });
  }

  /// Hands weight and bias gradients to the sink.
  /// @param x  the input of the forward pass
  template <class Sink>
  void backward_weight(context const& run, const_activation const& dy, const_activation const& x, Sink& sink) {
    if (sink.wants(weight)) sink.convolution(weight, dy, x, geometry_);
    if (!sink.wants(bias)) return;
    auto const sums = run.memory.template take_elements<real>(out_);
    run.machine.reduce(out_, dy.pitch(), detail::entry<real>{dy.first, dy.pitch(), 1},
                       detail::store_sum<real>{sums.template as<real>()});
    sink.dense(bias, std::span<real const>{sums.template as<real>(), static_cast<std::size_t>(out_)});
  }

  template <class F>
  void each_parameter(F&& f) {
    f(weight);
    f(bias);
  }

 private:
  using block = typename plane_memory<Executor>::block;

  convolution_geometry geometry_;
  std::int64_t in_;
  std::int64_t out_;

 public:
  device_parameter<real> weight;
  device_parameter<real> bias;
};

}  // namespace unet
