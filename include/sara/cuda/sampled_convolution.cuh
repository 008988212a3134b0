// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <sara/backend/convolution.hpp>
#include <sara/backend/positions.hpp>
#include <sara/cuda/matrix.hpp>
#include <sara/cuda/sampled_product.cuh>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara::cuda::detail {

/// An NCHW tensor of any strides, by address.
template <class T>
struct image_entries {
  T const* data;
  std::int64_t stride[4];

  explicit image_entries(const_tensor_view const& v) : data{v.template as<T>().data} {
    for (int d = 0; d < 4; ++d) stride[d] = v.stride()[d];
  }
  [[nodiscard]] SARA_HOST_DEVICE T const& at(std::int64_t n, std::int64_t c, std::int64_t y, std::int64_t x) const {
    return data[n * stride[0] + c * stride[1] + y * stride[2] + x * stride[3]];
  }
};

/// Where a tap of the kernel reads for a pixel of the output; none in the padding.
struct tap_geometry {
  conv2d_shape shape;
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t input(int d, std::int64_t out, std::int64_t tap) const {
    auto const& g = shape.geometry;
    return out * number(g.stride, d) + tap * number(g.dilation, d) - number(g.padding, d);
  }
  [[nodiscard]] SARA_HOST_DEVICE bool inside(std::int64_t y, std::int64_t x) const {
    return y >= 0 && y < shape.height && x >= 0 && x < shape.width;
  }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t taps() const { return number(shape.kernel, 0) * number(shape.kernel, 1); }

  /// of an array of two, whose operator[] is the host's
  [[nodiscard]] SARA_HOST_DEVICE static std::int64_t number(std::array<std::int64_t, 2> const& a, int d) {
    return reinterpret_cast<std::int64_t const*>(&a)[d];
  }
};

/// out[j] += Σ_{n, y, x} dY[n, row_j, y, x] · X at the entry's channel and tap. Lanes take neighbouring pixels.
template <Positions P, class T, Real R>
struct dot_taps {
  P positions;
  tap_geometry geometry;
  image_entries<T> dy;
  image_entries<T> x;
  R* out;

  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t slot, Lanes lanes) const {
    auto const& s = geometry.shape;
    auto const kernel_width = tap_geometry::number(s.kernel, 1);
    auto const position = positions.position(slot);
    auto const row = position / positions.shape().cols;
    auto const col = position % positions.shape().cols;
    auto const tap = col % geometry.taps();
    auto const channel = row / s.out_per_group() * s.in_per_group() + col / geometry.taps();
    auto const pixels = s.out_height * s.out_width;
    R sum = 0;
    for (auto p = static_cast<std::int64_t>(lanes.id); p < s.batch * pixels; p += Lanes::count) {
      auto const n = p / pixels;
      auto const out_y = p % pixels / s.out_width;
      auto const out_x = p % s.out_width;
      auto const in_y = geometry.input(0, out_y, tap / kernel_width);
      auto const in_x = geometry.input(1, out_x, tap % kernel_width);
      if (geometry.inside(in_y, in_x))
        sum += static_cast<R>(widen(dy.at(n, row, out_y, out_x))) * static_cast<R>(widen(x.at(n, channel, in_y, in_x)));
    }
    auto const total = lanes.sum(sum);
    if (lanes.id == 0) out[slot] += total;
  }
};

/// to[k, (n, p)] = X at channel and tap k of a run, for pixel p of image n of a slice: im2col, transposed.
template <class T>
struct copy_taps {
  tap_geometry geometry;
  image_entries<T> x;
  std::int64_t first_channel, first_image, pixels, columns;  // columns: images of the slice times pixels
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const k = i / columns;
    auto const n = i % columns / pixels;
    auto const p = i % columns % pixels;
    auto const tap = k % geometry.taps();
    auto const kernel_width = tap_geometry::number(geometry.shape.kernel, 1);
    auto const in_y = geometry.input(0, p / geometry.shape.out_width, tap / kernel_width);
    auto const in_x = geometry.input(1, p % geometry.shape.out_width, tap % kernel_width);
    to[i] = geometry.inside(in_y, in_x) ? x.at(first_image + n, first_channel + k / geometry.taps(), in_y, in_x)
                                        : narrow<T>(widened<T>{0});
  }
};

/// to[c, (n, p)] = dY[n, c, p], for the channels of a group and the images of a slice.
template <class T>
struct copy_channels {
  image_entries<T> dy;
  std::int64_t first_channel, first_image, width, pixels, columns;
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const n = i % columns / pixels;
    auto const p = i % columns % pixels;
    to[i] = dy.at(first_image + n, first_channel + i / columns, p / width, p % width);
  }
};

/// out[j] += panel[row_j - first row, col_j - first column] where that is inside the panel.
template <Positions P, Real R>
struct gather_columns {
  P positions;
  R const* panel;
  std::int64_t first_row, rows, first_col, cols;
  R* out;
  SARA_HOST_DEVICE void operator()(std::int64_t slot) const {
    auto const position = positions.position(slot);
    auto const row = position / positions.shape().cols - first_row;
    auto const col = position % positions.shape().cols - first_col;
    if (row >= 0 && row < rows && col >= 0 && col < cols) out[slot] += panel[row * cols + col];
  }
};

/// The dense product by panels of input channels: taps of some channels are copied once, for some images at a time,
/// multiplied with dY, and the panel gathered at once.
/// 2 · out · in / groups · taps · pixels flops. Extra memory: a panel, and the copies of a slice of images, 32 MiB each
/// (more only where one image and channel exceed that).
template <Scalar T, class Executor, Positions P, Real R>
void panel_convolution(Executor const& machine, conv2d_shape const& shape, const_tensor_view const& dy,
                       const_tensor_view const& x, P positions, R* out) {
  tap_geometry const geometry{shape};
  image_entries<T> const from_dy{dy}, from_x{x};
  auto const taps = geometry.taps();
  auto const rows = shape.out_per_group();
  auto const pixels = shape.out_height * shape.out_width;
  auto const size = static_cast<std::int64_t>(sizeof(T));
  auto const channels = std::clamp<std::int64_t>(panel_bytes / (rows * taps * static_cast<std::int64_t>(sizeof(R))), 1,
                                                 shape.in_per_group());
  auto const images =
      std::clamp<std::int64_t>(copy_bytes / (std::max(channels * taps, rows) * pixels * size), 1, shape.batch);
  auto panel = machine.template scratch<R>(rows * channels * taps);
  auto columns = machine.template scratch<T>(channels * taps * images * pixels);
  auto channel_major = machine.template scratch<T>(rows * images * pixels);
  for (std::int64_t group = 0; group < shape.geometry.groups; ++group)
    for (std::int64_t c = 0; c < shape.in_per_group(); c += channels) {
      auto const width = std::min(channels, shape.in_per_group() - c) * taps;
      for (std::int64_t n = 0; n < shape.batch; n += images) {
        auto const count = std::min(images, shape.batch - n) * pixels;
        machine.call_each(width * count, copy_taps<T>{geometry, from_x, group * shape.in_per_group() + c, n, pixels,
                                                      count, columns.data()});
        if (c == 0 || images < shape.batch)
          machine.call_each(rows * count, copy_channels<T>{from_dy, group * rows, n, shape.out_width, pixels, count,
                                                           channel_major.data()});
        machine.multiply({rows, width, count}, operand::of(channel_major.data(), count),
                         operand::of(columns.data(), count, true), n == 0 ? R{0} : R{1}, panel.data(), width);
      }
      machine.call_each(positions.count(),
                        gather_columns<P, R>{positions, panel.data(), group * rows, rows, c * taps, width, out});
    }
}

/// As panel_convolution for a 1x1 convolution without stride or padding: X is its own im2col, image after image.
/// No copies. Extra memory: a panel.
template <class Executor, Positions P, Real R>
void pointwise_convolution(Executor const& machine, conv2d_shape const& shape, const_tensor_view const& dy,
                           const_tensor_view const& x, P positions, row_panels const& plan, R* out) {
  auto const pixels = shape.out_height * shape.out_width;
  auto panel = machine.template scratch<R>(std::min(plan.rows, shape.out) * shape.in);
  for (std::size_t p = 0; p + 1 < plan.first_slot.size(); ++p) {
    auto const row = static_cast<std::int64_t>(p) * plan.rows;
    auto const rows = std::min(plan.rows, shape.out - row);
    auto const count = plan.first_slot[p + 1] - plan.first_slot[p];
    if (count == 0) continue;
    for (std::int64_t n = 0; n < shape.batch; ++n) {
      auto const* const left = dy.bytes() + (n * shape.out + row) * pixels * size_of(dy.type());
      auto const* const right = x.bytes() + n * shape.in * pixels * size_of(x.type());
      machine.multiply({rows, shape.in, pixels}, operand{left, dy.type(), pixels, false},
                       operand{right, x.type(), pixels, true}, n == 0 ? R{0} : R{1}, panel.data(), shape.in);
    }
    machine.call_each(count, gather_panel<P, R>{positions, panel.data(), plan.first_slot[p], row * shape.in, out});
  }
}

/// to = an image tensor, dense.
template <class From, class T>
struct convert_images {
  entries<From const> from;
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const { to[i] = narrow<T>(static_cast<widened<T>>(widen(from[i]))); }
};

/// Images [first, first + count) of an NCHW tensor, dense in R.
template <Real R, class Executor>
[[nodiscard]] typename Executor::template buffer<R> converted(Executor const& machine, const_tensor_view const& v,
                                                              std::int64_t first, std::int64_t count) {
  extents shape = v.shape();
  shape[0] = count;
  auto out = machine.template scratch<R>(shape.product());
  visit(v.type(), [&]<class From>() {
    const_tensor_view const images{v.template as<From>().data + first * v.stride()[0], shape, v.stride(), v.where()};
    machine.call_each(shape.product(), convert_images<From, R>{images.template as<From>(), out.data()});
  });
  return out;
}

/// One dot product an entry, of any strides; of two dtypes both are converted to R, some images at a time.
/// Extra memory: for two dtypes copies of 32 MiB, more only where one image exceeds that.
template <class Executor, Positions P, Real R>
void dot_convolution(Executor const& machine, conv2d_shape shape, const_tensor_view const& dy,
                     const_tensor_view const& x, P positions, R* out) {
  auto const add = [&]<class T>(image_entries<T> const& left, image_entries<T> const& right) {
    machine.call_each_by_lanes(positions.count(), dot_taps<P, T, R>{positions, tap_geometry{shape}, left, right, out});
  };
  if (dy.type() == x.type()) {
    visit(dy.type(), [&]<class T>() { add(image_entries<T>{dy}, image_entries<T>{x}); });
    return;
  }
  auto const batch = shape.batch;
  auto const image_bytes = (dy.size() + x.size()) / batch * static_cast<std::int64_t>(sizeof(R));
  auto const images = std::clamp<std::int64_t>(copy_bytes / image_bytes, 1, batch);
  for (std::int64_t first = 0; first < batch; first += images) {
    shape.batch = std::min(images, batch - first);
    auto const left = converted<R>(machine, dy, first, shape.batch);
    auto const right = converted<R>(machine, x, first, shape.batch);
    extents const dy_shape{shape.batch, shape.out, shape.out_height, shape.out_width};
    extents const x_shape{shape.batch, shape.in, shape.height, shape.width};
    add(image_entries<R>{{left.data(), dy_shape, dy.where()}}, image_entries<R>{{right.data(), x_shape, x.where()}});
  }
}

/// The gradient of a convolution at the positions of its weight, the cheapest way.
template <class Executor, Positions P, Real R>
void sampled_convolution(Executor const& machine, conv2d_shape const& shape, const_tensor_view const& dy,
                         const_tensor_view const& x, P positions, row_panels const& plan, R* out) {
  if (positions.count() == 0 || dy.size() == 0 || x.size() == 0) return;
  auto const density = static_cast<double>(positions.count()) / static_cast<double>(positions.shape().size());
  bool const multiplies = dy.type() == x.type() && std::is_same_v<R, double> == (dy.type() == dtype::float64) &&
                          density >= machine.dense_density(dy.type());
  auto const& g = shape.geometry;
  bool const is_pointwise = shape.kernel == std::array<std::int64_t, 2>{1, 1} && g.groups == 1 &&
                            g.stride == std::array<std::int64_t, 2>{1, 1} &&
                            g.padding == std::array<std::int64_t, 2>{0, 0} && dy.dense() && x.dense();
  // short inner dimensions waste a product's time on its result
  constexpr std::int64_t fewest_pixels = 1024;
  // below it, each group's panel is a launch for a product that fills no tile
  constexpr std::int64_t fewest_rows = 64;
  if (multiplies && is_pointwise && (shape.batch == 1 || shape.out_height * shape.out_width >= fewest_pixels)) {
    pointwise_convolution(machine, shape, dy, x, positions, plan, out);
  } else if (multiplies && (g.groups == 1 || shape.out_per_group() >= fewest_rows)) {
    visit(dy.type(), [&]<class T>() {
      if constexpr (std::is_same_v<R, double> == std::is_same_v<T, double>)
        panel_convolution<T>(machine, shape, dy, x, positions, out);
    });
  } else {
    dot_convolution(machine, shape, dy, x, positions, out);
  }
}

}  // namespace sara::cuda::detail
