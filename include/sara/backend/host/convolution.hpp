// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include <sara/backend/convolution.hpp>
#include <sara/backend/host/strips.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Some rows of one image's output, [first_row, first_row + rows).
struct band {
  std::int64_t image, first_row, rows;
};

/// Cuts the batch into bands of at most max_rows output rows.
[[nodiscard]] inline std::vector<band> bands_of(conv2d_shape const& c, std::int64_t max_rows) {
  std::vector<band> out;
  for (std::int64_t image = 0; image < c.batch; ++image)
    for (std::int64_t row = 0; row < c.out_height; row += max_rows)
      out.push_back({image, row, std::min(max_rows, c.out_height - row)});
  return out;
}

/// Rows of numbers that follow each other at a pitch, with a stride between neighbours.
template <class T>
struct pixel_rows {
  T* data;
  std::int64_t pitch;
  std::int64_t stride;
};

/// A block of rows of a width that is known at compile time: one or two vectors a row instead of a call.
template <std::int64_t Width, Real R>
void copy_rows(pixel_rows<R const> const& from, std::int64_t rows, R* to, std::int64_t to_pitch) {
  for (std::int64_t r = 0; r < rows; ++r) {
    std::array<R, static_cast<std::size_t>(Width)> row;
    std::memcpy(row.data(), from.data + r * from.pitch, sizeof row);
    std::memcpy(to + r * to_pitch, row.data(), sizeof row);
  }
}

/// to[r · to_pitch + w] = from row r, column w.
template <Real R, Scalar T>
void copy_rows(pixel_rows<T const> const& from, std::int64_t rows, std::int64_t width, R* to, std::int64_t to_pitch) {
  if constexpr (std::is_same_v<T, R>)
    if (from.stride == 1) switch (width) {
        case 4:
          return copy_rows<4, R>(from, rows, to, to_pitch);
        case 8:
          return copy_rows<8, R>(from, rows, to, to_pitch);
        case 16:
          return copy_rows<16, R>(from, rows, to, to_pitch);
        case 32:
          return copy_rows<32, R>(from, rows, to, to_pitch);
        default:
          for (std::int64_t r = 0; r < rows; ++r) std::copy_n(from.data + r * from.pitch, width, to + r * to_pitch);
          return;
      }
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t w = 0; w < width; ++w)
      to[r * to_pitch + w] = static_cast<R>(widen(from.data[r * from.pitch + w * from.stride]));
}

/// A convolution whose strips are packed and multiplied a few bands at a time, so that the workspace stays bounded.
///
/// A strip of dY is an output channel, rows of pixels one after the other. The strip of weight entry (i, kh, kw) is
/// input channel i as that tap sees it. Two ways to lay these out:
/// - shifted: a copy a channel and column kw of the kernel, and a row of the kernel is an offset into it. For stride 1,
///   and a width of whole vectors, without which most loads would cross two cache lines.
/// - otherwise: a copy for every tap (a panel of im2col).
/// Either way no zero between rows or images is multiplied.
template <Real R>
class banded_convolution {
 public:
  banded_convolution(conv2d_shape const& shape, const_tensor_view const& dy, const_tensor_view const& x)
      : c_{shape},
        dy_{dy},
        x_{x},
        shifted_{c_.geometry.stride[0] == 1 && c_.geometry.stride[1] == 1 && c_.out_width % vector_length<R> == 0},
        halo_{shifted_ ? c_.geometry.dilation[0] * (c_.kernel[0] - 1) : 0},
        copies_{shifted_ ? c_.kernel[1] : c_.kernel[0] * c_.kernel[1]} {}

  /// Workspace: strip_budget elements, or what one panel needs; and one band of one channel a thread.
  template <Positions P>
  void add(thread_pool& pool, P positions, host_sampling_plan const& plan, R* out) {
    if (positions.count() == 0 || c_.batch == 0 || c_.out_height == 0 || c_.out_width == 0) return;
    auto const x_strips = c_.in * copies_;
    auto const strip_count = c_.out + x_strips;
    auto const budget = std::max(strip_budget, strip_count * panel_length<R>);
    auto const bands = bands_of(c_, band_rows(budget / c_.out_width, strip_count));
    auto const together =
        std::max<std::int64_t>(1, budget / (c_.out_width * (strip_count * bands.front().rows + x_strips * halo_)));
    struct workspace;
    for (std::int64_t first = 0; first < std::ssize(bands); first += together) {
      auto const count = std::min(together, std::ssize(bands) - first);
      std::span<band const> const part{bands.data() + first, static_cast<std::size_t>(count)};
      auto const rows = std::accumulate(part.begin(), part.end(), std::int64_t{0},
                                        [](std::int64_t sum, band const& b) { return sum + b.rows; });
      dy_pitch_ = pitch_of(rows * c_.out_width);
      x_pitch_ = pitch_of((rows + count * halo_) * c_.out_width);
      R* const dy_strips = scratch<workspace, R>(c_.out * dy_pitch_ + x_strips * x_pitch_);
      R* const x_strips_at = dy_strips + c_.out * dy_pitch_;
      pack_dy(pool, part, dy_strips);
      pack_x(pool, part, x_strips_at);
      auto const column = column_offsets();
      auto const panels = panels_of(part);
      add_products(pool, plan,
                   strips<R>{dy_strips, dy_pitch_, x_strips_at, column.data(), c_.out_per_group(),
                             c_.geometry.groups > 1 ? c_.in_per_group() * copies_ * x_pitch_ : 0},
                   std::span<panel const>{panels}, plan.columns(positions), out);
    }
  }

 private:
  /// As many output rows as fit, a whole number of panels if possible.
  /// @param rows  grid rows of all strips together that fit
  [[nodiscard]] std::int64_t band_rows(std::int64_t rows, std::int64_t strip_count) const {
    auto const fit = std::clamp<std::int64_t>((rows - c_.in * copies_ * halo_) / strip_count, 1, c_.out_height);
    auto const unit = std::max<std::int64_t>(1, panel_length<R> / c_.out_width);
    return fit < unit ? std::min(unit, c_.out_height) : fit / unit * unit;
  }

  /// Strips are an odd number of vectors apart, so that equal places of many strips do not share a cache set.
  [[nodiscard]] static std::int64_t pitch_of(std::int64_t length) {
    return (round_up(length, vector_length<R>) / vector_length<R> | 1) * vector_length<R>;
  }

  /// Where the strip of each weight column begins.
  [[nodiscard]] std::vector<std::uint32_t> column_offsets() const {
    require<shape_error>(c_.in * copies_ * x_pitch_ <= std::int64_t{0xffffffff},
                         "conv2d: expected strips of at most 2^32 elements, got ", c_.in * copies_ * x_pitch_);
    std::vector<std::uint32_t> column;
    for (std::int64_t i = 0; i < c_.in_per_group(); ++i)
      for (std::int64_t kh = 0; kh < c_.kernel[0]; ++kh)
        for (std::int64_t kw = 0; kw < c_.kernel[1]; ++kw) {
          auto const copy = shifted_ ? kw : kh * c_.kernel[1] + kw;
          auto const shift = shifted_ ? kh * c_.geometry.dilation[0] * c_.out_width : 0;
          column.push_back(static_cast<std::uint32_t>((i * copies_ + copy) * x_pitch_ + shift));
        }
    return column;
  }

  [[nodiscard]] std::vector<panel> panels_of(std::span<band const> bands) const {
    std::vector<panel> panels;
    auto const add = [&](panel const& p) { panels.push_back(p); };
    std::int64_t dy = 0;
    if (!shifted_) {
      for (auto const& b : bands) dy += b.rows * c_.out_width;
      each_panel<R>(dy, 0, 0, add);
      return panels;
    }
    std::int64_t x = 0;
    for (auto const& b : bands) {
      each_panel<R>(b.rows * c_.out_width, dy, x, add);
      dy += b.rows * c_.out_width;
      x += (b.rows + halo_) * c_.out_width;
    }
    return panels;
  }

  void pack_dy(thread_pool& pool, std::span<band const> bands, R* strips) const {
    visit(dy_.type(), [&]<class T>() {
      auto const dy = dy_.template as<T>();
      pool.parallel_for(c_.out, [&](std::int64_t o) {
        R* to = strips + o * dy_pitch_;
        R* const end = to + dy_pitch_;
        for (auto const& b : bands) {
          auto const* const from = dy.data + b.image * dy.stride[0] + o * dy.stride[1] + b.first_row * dy.stride[2];
          copy_rows<R, T>({from, dy.stride[2], dy.stride[3]}, b.rows, c_.out_width, to, c_.out_width);
          to += b.rows * c_.out_width;
        }
        std::fill(to, end, R{0});
      });
    });
  }

  void pack_x(thread_pool& pool, std::span<band const> bands, R* strips) const {
    struct padded_band;
    auto const& g = c_.geometry;
    auto const width = (c_.out_width - 1) * g.stride[1] + g.dilation[1] * (c_.kernel[1] - 1) + 1;
    auto const rows = (bands.front().rows - 1) * g.stride[0] + g.dilation[0] * (c_.kernel[0] - 1) + 1;
    visit(x_.type(), [&]<class T>() {
      auto const x = x_.template as<T>();
      pool.parallel_for(c_.in, [&](std::int64_t i) {
        R* const padded = scratch<padded_band, R>(rows * width);
        R* const to = strips + i * copies_ * x_pitch_;
        std::int64_t at = 0;
        std::optional<frame> before;
        for (auto const& b : bands) {
          auto const f = frame_of(b, (b.rows - 1) * g.stride[0] + g.dilation[0] * (c_.kernel[0] - 1) + 1, width);
          if (before != f) std::fill(padded, padded + rows * width, R{0});  // once, where bands are whole images
          before = f;
          auto const* const pixels = x.data + b.image * x.stride[0] + i * x.stride[1] + (f.top + f.first) * x.stride[2];
          copy_rows<R, T>({pixels, x.stride[2], x.stride[3]}, f.last - f.first, f.inside,
                          padded + f.first * width + f.left, width);
          for (std::int64_t copy = 0; copy < copies_; ++copy) {
            auto const kh = shifted_ ? 0 : copy / c_.kernel[1], kw = copy % c_.kernel[1];
            R const* const from = padded + kh * g.dilation[0] * width + kw * g.dilation[1];
            copy_rows<R, R>({from, width * g.stride[0], g.stride[1]}, b.rows + halo_, c_.out_width,
                            to + copy * x_pitch_ + at, c_.out_width);
          }
          at += (b.rows + halo_) * c_.out_width;
        }
        for (std::int64_t copy = 0; copy < copies_; ++copy)
          std::fill(to + copy * x_pitch_ + at, to + (copy + 1) * x_pitch_, R{0});
      });
    });
  }

  /// Where a band's input lies in its image: rows [first, last) of the band and columns [left, left + inside) of its
  /// width are pixels, the others padding.
  struct frame {
    std::int64_t top, first, last, left, inside;  // top: image row of the band's first
    friend bool operator==(frame const& a, frame const& b) { return a.first == b.first && a.last == b.last; }
  };
  [[nodiscard]] frame frame_of(band const& b, std::int64_t rows, std::int64_t width) const {
    auto const& g = c_.geometry;
    auto const top = b.first_row * g.stride[0] - g.padding[0];
    auto const first = std::clamp<std::int64_t>(-top, 0, rows);
    auto const left = std::min(g.padding[1], width);
    return {top, first, std::clamp<std::int64_t>(c_.height - top, first, rows), left,
            std::clamp<std::int64_t>(c_.width, 0, width - left)};
  }

  conv2d_shape c_;
  const_tensor_view dy_;
  const_tensor_view x_;
  bool shifted_;
  std::int64_t halo_;    // rows that a band of X has beyond its output rows
  std::int64_t copies_;  // strips of an input channel
  std::int64_t dy_pitch_ = 0;
  std::int64_t x_pitch_ = 0;
};

}  // namespace sara::detail
