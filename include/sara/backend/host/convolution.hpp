// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
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

/// A convolution whose strips are packed and multiplied a few bands at a time, so that the workspace stays bounded.
///
/// Two ways to lay out the strips of X:
/// - stride 1: one zero-padded strip a channel. The strip of weight entry (i, kh, kw) is channel i's, read from an
///   offset: nothing is copied per kernel tap. dY is laid out on the same padded grid, zero in between.
/// - otherwise: one strip a weight column, gathered on the grid of the output (a panel of im2col).
template <Real R>
class banded_convolution {
 public:
  banded_convolution(conv2d_shape const& shape, const_tensor_view const& dy, const_tensor_view const& x)
      : c_{shape}, dy_{dy}, x_{x} {
    shifted_ = c_.geometry.stride[0] == 1 && c_.geometry.stride[1] == 1;
    halo_ = shifted_ ? c_.geometry.dilation[0] * (c_.kernel[0] - 1) : 0;
    auto const reach = c_.geometry.dilation[1] * (c_.kernel[1] - 1);
    row_pitch_ = shifted_ ? c_.out_width + reach : c_.out_width;
    slack_ = shifted_ ? round_up(reach + halo_ * row_pitch_, dot_lanes) : 0;
    x_strips_ = shifted_ ? c_.in : c_.in * c_.kernel[0] * c_.kernel[1];
  }

  template <Positions P>
  void add(thread_pool& pool, P positions, R* out) {
    if (positions.count() == 0 || c_.batch == 0 || c_.out_height == 0 || c_.out_width == 0) return;
    auto const strips = c_.out + x_strips_;
    auto const rows_in_budget = std::max<std::int64_t>(1, strip_budget / strips / row_pitch_);
    auto const bands = bands_of(c_, std::max<std::int64_t>(1, std::min(c_.out_height, rows_in_budget - halo_)));
    auto const tallest =
        std::max_element(bands.begin(), bands.end(), [](auto const& a, auto const& b) { return a.rows < b.rows; });
    auto const together = std::max<std::int64_t>(1, rows_in_budget / (tallest->rows + halo_));
    length_ = round_up(together * (tallest->rows + halo_) * row_pitch_, dot_lanes);
    workspace_.resize(static_cast<std::size_t>(c_.out * length_ + x_strips_ * (length_ + slack_)));
    for (std::int64_t first = 0; first < std::ssize(bands); first += together) {
      auto const count = std::min(together, std::ssize(bands) - first);
      std::span<band const> const part{bands.data() + first, static_cast<std::size_t>(count)};
      pack_dy(pool, part);
      if (shifted_)
        pack_channels(pool, part);
      else
        pack_columns_of_x(pool, part);
      add_strip_products(
          pool, positions, length_, [&](std::int64_t row) { return workspace_.data() + row * length_; },
          [&](std::int64_t row, std::int64_t col) { return column_strip(row, col); }, out);
    }
  }

 private:
  R* x_strip(std::int64_t i) { return workspace_.data() + c_.out * length_ + i * (length_ + slack_); }

  R const* column_strip(std::int64_t row, std::int64_t col) {
    auto const taps = c_.kernel[0] * c_.kernel[1];
    auto const column = row / c_.out_per_group() * c_.in_per_group() * taps + col;  // among all groups' columns
    if (!shifted_) return x_strip(column);
    auto const tap = column % taps;
    return x_strip(column / taps) + tap / c_.kernel[1] * c_.geometry.dilation[0] * row_pitch_ +
           tap % c_.kernel[1] * c_.geometry.dilation[1];
  }

  /// One strip for each output channel; bands one after the other, `rows + halo` grid rows each.
  void pack_dy(thread_pool& pool, std::span<band const> bands) {
    visit(dy_.type(), [&]<class T>() {
      auto const dy = dy_.template as<T>();
      pool.parallel_for(c_.out, [&](std::int64_t o) {
        R* to = workspace_.data() + o * length_;
        std::fill(to, to + length_, R{0});
        for (auto const& b : bands) {
          for (std::int64_t r = 0; r < b.rows; ++r) {
            auto const* from = dy.data + b.image * dy.stride[0] + o * dy.stride[1] + (b.first_row + r) * dy.stride[2];
            for (std::int64_t w = 0; w < c_.out_width; ++w)
              to[r * row_pitch_ + w] = static_cast<R>(widen(from[w * dy.stride[3]]));
          }
          to += (b.rows + halo_) * row_pitch_;
        }
      });
    });
  }

  /// Row r of a band holds input row first_row + r - padding, from column -padding on; zero outside the image.
  void pack_channels(thread_pool& pool, std::span<band const> bands) {
    visit(x_.type(), [&]<class T>() {
      auto const x = x_.template as<T>();
      pool.parallel_for(c_.in, [&](std::int64_t i) {
        R* to = x_strip(i);
        std::fill(to, to + length_ + slack_, R{0});
        for (auto const& b : bands)
          for (std::int64_t r = 0; r < b.rows + halo_; ++r, to += row_pitch_)
            copy_row(x, b.image, i, b.first_row + r, 0, to, row_pitch_);
      });
    });
  }

  void pack_columns_of_x(thread_pool& pool, std::span<band const> bands) {
    auto const taps = c_.kernel[0] * c_.kernel[1];
    visit(x_.type(), [&]<class T>() {
      auto const x = x_.template as<T>();
      pool.parallel_for(x_strips_, [&](std::int64_t column) {
        auto const tap = column % taps;
        auto const dh = tap / c_.kernel[1] * c_.geometry.dilation[0];
        auto const dw = tap % c_.kernel[1] * c_.geometry.dilation[1];
        R* to = x_strip(column);
        std::fill(to, to + length_, R{0});
        for (auto const& b : bands)
          for (std::int64_t r = 0; r < b.rows; ++r, to += row_pitch_)
            copy_row(x, b.image, column / taps, (b.first_row + r) * c_.geometry.stride[0] + dh, dw, to, c_.out_width);
      });
    });
  }

  /// to[w] = X of the padded image at row `row`, column offset + w · stride, for the columns inside the image.
  template <class T>
  void copy_row(entries<T const> const& x, std::int64_t image, std::int64_t channel, std::int64_t row,
                std::int64_t offset, R* to, std::int64_t count) const {
    auto const h = row - c_.geometry.padding[0];
    if (h < 0 || h >= c_.height) return;
    auto const* from = x.data + image * x.stride[0] + channel * x.stride[1] + h * x.stride[2];
    auto const s = c_.geometry.stride[1];
    auto const before = offset - c_.geometry.padding[1];  // column of to[0] in the image
    auto const first = before >= 0 ? 0 : (-before + s - 1) / s;
    auto const last = std::min(count, (c_.width - before + s - 1) / s);
    for (auto w = first; w < last; ++w) to[w] = static_cast<R>(widen(from[(before + w * s) * x.stride[3]]));
  }

  conv2d_shape c_;
  const_tensor_view dy_;
  const_tensor_view x_;
  bool shifted_ = false;
  std::int64_t halo_ = 0;       // grid rows that a band of X has beyond its output rows
  std::int64_t row_pitch_ = 0;  // elements of a grid row
  std::int64_t slack_ = 0;      // elements past a strip that the last tap's shift reads
  std::int64_t x_strips_ = 0;
  std::int64_t length_ = 0;
  std::vector<R> workspace_;
};

}  // namespace sara::detail
