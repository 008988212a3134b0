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

/// Of an array of two, whose operator[] is the host's.
[[nodiscard]] SARA_HOST_DEVICE inline std::int64_t number(std::array<std::int64_t, 2> const& a, int d) {
  return reinterpret_cast<std::int64_t const*>(&a)[d];
}
[[nodiscard]] SARA_HOST_DEVICE inline std::int64_t taps_of(conv2d_shape const& s) {
  return number(s.kernel, 0) * number(s.kernel, 1);
}

/// Every step-th pixel of the output, image after image, by carries: a division of 64 bits costs more than all else
/// that is done at a pixel.
class pixel_walk {
 public:
  SARA_HOST_DEVICE pixel_walk(conv2d_shape const& s, std::int64_t first, std::int64_t step)
      : height_{s.out_height}, width_{s.out_width}, at_{pixel(first)}, step_{pixel(step)} {}

  [[nodiscard]] SARA_HOST_DEVICE std::int64_t image() const { return at_.n; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t y() const { return at_.y; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t x() const { return at_.x; }
  SARA_HOST_DEVICE void advance() {
    at_ = {at_.n + step_.n, at_.y + step_.y, at_.x + step_.x};
    if (at_.x >= width_) at_ = {at_.n, at_.y + 1, at_.x - width_};
    if (at_.y >= height_) at_ = {at_.n + 1, at_.y - height_, at_.x};
  }

 private:
  struct place {
    std::int64_t n, y, x;
  };
  [[nodiscard]] SARA_HOST_DEVICE place pixel(std::int64_t i) const {
    return {i / width_ / height_, i / width_ % height_, i % width_};
  }

  std::int64_t height_, width_;
  place at_, step_;
};

/// What one channel and tap of the kernel reads of X.
template <class T>
class tap_entries {
 public:
  SARA_HOST_DEVICE tap_entries(conv2d_shape const& s, image_entries<T> const& x, std::int64_t channel, std::int64_t tap)
      : shape_{s},
        x_{x},
        channel_{channel},
        top_{first(0, tap / number(s.kernel, 1))},
        left_{first(1, tap % number(s.kernel, 1))} {}

  /// For a pixel of the output; null in the padding.
  [[nodiscard]] SARA_HOST_DEVICE T const* at(pixel_walk const& pixel) const {
    auto const y = top_ + pixel.y() * number(shape_.geometry.stride, 0);
    auto const x = left_ + pixel.x() * number(shape_.geometry.stride, 1);
    bool const inside = y >= 0 && y < shape_.height && x >= 0 && x < shape_.width;
    return inside ? &x_.at(pixel.image(), channel_, y, x) : nullptr;
  }

 private:
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t first(int d, std::int64_t tap) const {
    return tap * number(shape_.geometry.dilation, d) - number(shape_.geometry.padding, d);
  }

  conv2d_shape const& shape_;
  image_entries<T> const& x_;
  std::int64_t channel_, top_, left_;
};

/// out[j] += Σ_{n, y, x} dY[n, row_j, y, x] · X at the entry's channel and tap. Lanes take neighbouring pixels.
/// 2 flops for every two loads.
template <Positions P, class T, Real R>
struct dot_taps {
  P positions;
  conv2d_shape shape;
  image_entries<T> dy;
  image_entries<T> x;
  R* out;

  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t slot, Lanes lanes) const {
    auto const taps = taps_of(shape);
    auto const position = positions.position(slot);
    auto const row = position / positions.shape().cols;
    auto const col = position % positions.shape().cols;
    tap_entries<T> const tap{shape, x, row / shape.out_per_group() * shape.in_per_group() + col / taps, col % taps};
    R sum = 0;
    for (pixel_walk pixel{shape, lanes.id, Lanes::count}; pixel.image() < shape.batch; pixel.advance())
      if (T const* const input = tap.at(pixel))
        sum += static_cast<R>(widen(dy.at(pixel.image(), row, pixel.y(), pixel.x()))) * static_cast<R>(widen(*input));
    auto const total = lanes.sum(sum);
    if (lanes.id == 0) out[slot] += total;
  }
};

/// Pixels that the lanes of a warp copy of a row.
inline constexpr std::int64_t pixels_per_warp = 1024;

/// Pixels [first, first + count) of all images, one image after the other.
struct pixel_slice {
  std::int64_t first, count;
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t parts() const { return (count + pixels_per_warp - 1) / pixels_per_warp; }
};

/// to[k, p] = X at channel and tap k, counted from a channel on, for pixel p of a slice: im2col, transposed.
/// An entry is read, mostly from cache, and one written.
template <class T>
struct copy_taps {
  conv2d_shape shape;
  image_entries<T> x;
  std::int64_t first_channel;
  pixel_slice slice;
  T* to;

  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t i, Lanes lanes) const {
    auto const k = i / slice.parts();
    auto const begin = i % slice.parts() * pixels_per_warp;
    auto const end = begin + pixels_per_warp < slice.count ? begin + pixels_per_warp : slice.count;
    auto const taps = taps_of(shape);
    tap_entries<T> const tap{shape, x, first_channel + k / taps, k % taps};
    pixel_walk pixel{shape, slice.first + begin + lanes.id, Lanes::count};
    for (auto p = begin + lanes.id; p < end; p += Lanes::count, pixel.advance()) {
      T const* const input = tap.at(pixel);
      to[k * slice.count + p] = input ? *input : narrow<T>(widened<T>{0});
    }
  }
};

/// out[j] += panel[row_j - first row, col_j - first column] for the slots of a row that are inside the panel.
template <Positions P, Real R>
struct gather_columns {
  P positions;
  R const* panel;
  std::int64_t first_row, first_col, cols;
  R* out;

  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t row, Lanes lanes) const {
    auto const first_position = (first_row + row) * positions.shape().cols + first_col;
    auto const last = positions.lower_bound(first_position + cols);
    for (auto slot = positions.lower_bound(first_position) + lanes.id; slot < last; slot += Lanes::count)
      out[slot] += panel[row * cols + positions.position(slot) - first_position];
  }
};

/// The dense product by panels of input channels: taps of some channels are copied once, for some pixels at a time,
/// multiplied with dY, and the panel gathered at once.
/// 2 · out · in / groups · taps · pixels flops. Extra memory: a panel, and the copies of a slice of pixels, 32 MiB
/// each.
template <Scalar T, class Executor, Positions P, Real R>
void panel_convolution(Executor const& machine, conv2d_shape const& shape, const_tensor_view const& dy,
                       const_tensor_view const& x, P positions, R* out) {
  auto const taps = taps_of(shape);
  auto const rows = shape.out_per_group();
  auto const pixels = shape.batch * shape.out_height * shape.out_width;
  auto const channels = std::clamp<std::int64_t>(panel_bytes / (rows * taps * static_cast<std::int64_t>(sizeof(R))), 1,
                                                 shape.in_per_group());
  auto const pixel_bytes = std::max(channels * taps, rows) * static_cast<std::int64_t>(sizeof(T));
  auto const most = whole_tiles(copy_bytes / pixel_bytes, pixels);
  auto panel = machine.template scratch<R>(rows * channels * taps);
  auto columns = machine.template scratch<T>(channels * taps * most);
  auto channel_major = machine.template scratch<T>(rows * most);
  // dY as a 1x1 convolution reads it
  conv2d_shape const output{shape.batch,     shape.out, shape.out_height,
                            shape.out_width, shape.out, shape.out_height,
                            shape.out_width, {1, 1},    {}};
  auto const copy = [&](conv2d_shape const& from, const_tensor_view const& images, std::int64_t first_channel,
                        std::int64_t count, pixel_slice slice, T* to) {
    machine.call_each_by_lanes(count * slice.parts(),
                               copy_taps<T>{from, image_entries<T>{images}, first_channel, slice, to});
  };
  for (std::int64_t group = 0; group < shape.geometry.groups; ++group)
    for (std::int64_t c = 0; c < shape.in_per_group(); c += channels) {
      auto const width = std::min(channels, shape.in_per_group() - c) * taps;
      for (std::int64_t first = 0; first < pixels; first += most) {
        pixel_slice const slice{first, std::min(most, pixels - first)};
        copy(shape, x, group * shape.in_per_group() + c, width, slice, columns.data());
        if (c == 0 || most < pixels) copy(output, dy, group * rows, rows, slice, channel_major.data());
        machine.multiply({rows, width, slice.count}, operand::of(channel_major.data(), slice.count),
                         operand::of(columns.data(), slice.count, true), first == 0 ? R{0} : R{1}, panel.data(), width);
      }
      machine.call_each_by_lanes(rows,
                                 gather_columns<P, R>{positions, panel.data(), group * rows, c * taps, width, out});
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
  SARA_HOST_DEVICE void operator()(std::int64_t i) const { to[i] = narrow<T>(widen(from[i])); }
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
    machine.call_each_by_lanes(positions.count(), dot_taps<P, T, R>{positions, shape, left, right, out});
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
