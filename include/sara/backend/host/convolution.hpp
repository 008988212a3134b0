// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/convolution.hpp>
#include <sara/backend/host/pixel_rows.hpp>
#include <sara/backend/host/strip_axis.hpp>
#include <sara/backend/host/strips.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Elements of dY that a convolution packs at a time, and of X beside them. Measured: more leaves the cache, fewer pack
/// the rows between two bands more often.
inline constexpr std::int64_t dy_budget = 1 << 15;
inline constexpr std::int64_t x_budget = 1 << 16;

/// Entries an input channel and column of the kernel from which on a convolution copies the pixels for each column of
/// the kernel: loads that do not cross cache lines are then worth more than the copies cost.
inline constexpr std::int64_t aligned_from = 8;

/// Output rows [first_row, first_row + rows) of an image; the first number of the first is number `at` of a strip.
struct band {
  std::int64_t image, first_row, rows, at;
};

/// What is packed and multiplied at a time.
struct group_of_bands {
  std::vector<band> bands;
  std::int64_t length;  ///< of a strip, padded
};

/// A convolution whose strips are packed and multiplied some images, or a part of one, at a time, so that the workspace
/// stays bounded and in cache: dY of a part of the plan, and beside it X of one tile of the part after the other.
///
/// A strip of dY is an output channel, one of X a line of an input channel: rows one after the other, and so the
/// images; where pixels are copied for each column of the kernel, narrow images lie side by side, so that a row is a
/// whole number of vectors. Weight entry (o, i, kh, kw) is the product of o's strip and one of i's, shifted. Zeros of X
/// lie where a tap looks over an edge, zeros of dY between its rows; each pixel is copied once, or once a kernel's
/// column. As those zeros are multiplied too, a pixel that is not finite makes more entries NaN than those whose tap
/// sees it.
template <Real R>
class banded_convolution {
 public:
  banded_convolution(conv2d_shape const& shape, const_tensor_view const& dy, const_tensor_view const& x)
      : c_{shape},
        dy_{dy},
        x_{x},
        rows_{phase_lines(axis(0, c_.height, c_.out_height))},
        dy_pattern_{c_.out_width, 0, c_.out_width} {}

  /// Workspace of each thread: dY of its rows, of all rows dy_budget elements, or two panels or one row of pixels if
  /// these are more, and X of a tile, x_budget elements or what one block of the plan needs.
  template <Positions P>
  void add(thread_pool& pool, P positions, host_sampling_plan const& plan, R* out) {
    auto const* const columns = plan.columns(positions);
    if (positions.count() == 0 || dy_.size() == 0 || x_.size() == 0) return;
    choose_columns(positions.count());
    auto const groups = this->groups();
    pool.parallel_for(std::ssize(plan.parts()), [&](std::int64_t i) {
      add_part(plan, plan.parts()[static_cast<std::size_t>(i)], groups, columns, out);
    });
  }

 private:
  /// Numbers [first, last) of the input channels of these groups.
  struct channel_range {
    std::int64_t first_group, last_group;
    std::int64_t first, last;
    [[nodiscard]] std::int64_t groups() const { return last_group - first_group; }
    [[nodiscard]] std::int64_t count() const { return last - first; }
  };

  /// Blocks of a part of the plan whose X is packed at a time: it stays in cache beside the part's dY.
  struct tile {
    std::int64_t first_column, last_column;
    host_sampling_plan::piece_range pieces;
    channel_range channels;
  };

  /// What one part of the plan adds, by the calling thread.
  void add_part(host_sampling_plan const& plan, host_sampling_plan::part const& part,
                std::vector<group_of_bands> const& groups, std::uint16_t const* columns, R* out) const {
    auto const length = groups.front().length;  // no other is longer
    auto const dy_pitch = pitch_of(length);
    auto const x_pitch = pitch_of(length + rows_.halo * cols_.period + std::max(cols_.period, cols_.halo));
    auto const tiles = this->tiles(plan, part, x_pitch);
    auto const column = column_offsets(tiles, x_pitch);
    std::int64_t channels = 0;
    for (auto const& t : tiles) channels = std::max(channels, t.channels.count());
    auto const group_pitch = channels * lines() * x_pitch;
    struct workspace;
    R* const dy_strips = scratch<workspace, R>(part.rows() * dy_pitch + tiles[0].channels.groups() * group_pitch);
    R* const x_strips = dy_strips + part.rows() * dy_pitch;
    strips<R> const packed{dy_strips,
                           dy_pitch,
                           part.first_row,
                           x_strips,
                           column.data(),
                           c_.out_per_group(),
                           c_.geometry.groups > 1 ? group_pitch : 0};
    for (auto const& group : groups) {
      auto const reduction = cut_steps<R>(group.length, together_, together_, together_);
      pack_dy(group.bands, part.first_row, part.last_row, dy_pitch, dy_strips);
      for (auto const& t : tiles) {
        for (std::int64_t g = 0; g < t.channels.groups(); ++g) {
          auto const first = (t.channels.first_group + g) * c_.in_per_group() + t.channels.first;
          pack_x(group.bands, first, first + t.channels.count(), x_pitch, x_strips + g * group_pitch);
        }
        add_products(plan, t.pieces, packed, std::span<steps const>{reduction}, columns, out);
      }
    }
  }

  /// As few tiles as their strips allow, at least one block each.
  [[nodiscard]] std::vector<tile> tiles(host_sampling_plan const& plan, host_sampling_plan::part const& part,
                                        std::int64_t x_pitch) const {
    auto const taps = c_.kernel[0] * c_.kernel[1];
    std::vector<tile> out;
    for (auto const& b : plan.blocks(part)) {
      channel_range const channels{part.first_row / c_.out_per_group(), ceil_div(part.last_row, c_.out_per_group()),
                                   b.first_column / taps, ceil_div(b.last_column, taps)};
      if (!out.empty()) {
        auto& t = out.back();
        if ((channels.last - t.channels.first) * channels.groups() * lines() * x_pitch <= x_budget) {
          t.last_column = b.last_column;
          t.pieces.last = b.pieces.last;
          t.channels.last = channels.last;
          continue;
        }
      }
      out.push_back({b.first_column, b.last_column, b.pieces, channels});
    }
    return out;
  }

  [[nodiscard]] convolution_axis axis(std::size_t i, std::int64_t size, std::int64_t out) const {
    auto const& g = c_.geometry;
    return {size, out, c_.kernel[i], g.stride[i], g.padding[i], g.dilation[i]};
  }

  /// Strips of an input channel.
  [[nodiscard]] std::int64_t lines() const { return std::ssize(rows_.lines) * std::ssize(cols_.lines); }

  /// A copy for each column of the kernel, with which no load crosses a cache line, where so many entries are worth it.
  void choose_columns(std::int64_t entries) {
    auto const cols = axis(1, c_.width, c_.out_width);
    cols_ = tap_lines(cols);
    across_ = std::max<std::int64_t>(1, vector_length<R> / c_.out_width);
    cols_.period *= across_;
    bool const fits = across_ == 1 || (across_ <= c_.batch && c_.out_height <= rows_at_a_time());
    bool const pays = c_.kernel[1] == 1 || entries >= aligned_from * c_.in * c_.kernel[1];
    aligned_ = pays && fits && cols_.period % vector_length<R> == 0;
    if (!aligned_) {
      cols_ = phase_lines(cols);
      across_ = 1;
    }
    x_patterns_.clear();
    for (auto const& l : cols_.lines)
      x_patterns_.push_back(aligned_ ? row_pattern<R>{c_.out_width, l.place, l.length}
                                     : row_pattern<R>{l.length, 0, l.length});
  }

  /// Rows that dY's budget allows, and at least what is summed together.
  [[nodiscard]] std::int64_t rows_at_a_time() const {
    return std::max(ceil_div(together_, cols_.period), dy_budget / (cols_.period * c_.out));
  }

  /// Elements from the first output to the last of so many rows, padded.
  [[nodiscard]] std::int64_t length_of(std::int64_t rows) const {
    return padded_length<R>((rows - 1) * cols_.period + across_ * c_.out_width);
  }

  /// As many whole images as fit, or rows of one image, but fewer where that wastes less of the last steps.
  [[nodiscard]] std::vector<group_of_bands> groups() const {
    auto const fit = rows_at_a_time();
    // Units of `height` rows, `pitch` rows apart.
    auto const at_a_time = [&](std::int64_t units, std::int64_t height, std::int64_t pitch) {
      auto const cost = [&](std::int64_t n) { return ceil_div(units, n) * length_of((n - 1) * pitch + height); };
      auto const most = std::min(units, 1 + (fit - height) / pitch);
      auto best = most;
      for (auto n = most - 1; n > most / 2; --n)
        if (cost(n) < cost(best)) best = n;
      return best;
    };
    std::vector<group_of_bands> groups;
    if (c_.out_height <= fit) {
      auto const stacked = at_a_time(ceil_div(c_.batch, across_), c_.out_height, rows_.period);
      for (std::int64_t image = 0; image < c_.batch; ++image) {
        auto const row = image / across_ % stacked * rows_.period;
        if (image % (across_ * stacked) == 0) groups.push_back({});
        groups.back().bands.push_back({image, 0, c_.out_height, row * cols_.period + image % across_ * c_.out_width});
        groups.back().length = length_of(row + c_.out_height);
      }
    } else {
      auto const rows = at_a_time(c_.out_height, 1, 1);
      for (std::int64_t image = 0; image < c_.batch; ++image)
        for (std::int64_t row = 0; row < c_.out_height; row += rows) {
          auto const count = std::min(rows, c_.out_height - row);
          groups.push_back({{{image, row, count, 0}}, length_of(count)});
        }
    }
    return groups;
  }

  /// Strips are an odd number of vectors apart, so that equal places of many strips do not share a cache set.
  [[nodiscard]] static std::int64_t pitch_of(std::int64_t length) {
    return (ceil_div(length, vector_length<R>) | 1) * vector_length<R>;
  }

  /// Where in its tile's strips that of each weight column begins.
  [[nodiscard]] std::vector<std::uint32_t> column_offsets(std::vector<tile> const& tiles, std::int64_t x_pitch) const {
    auto const taps = c_.kernel[0] * c_.kernel[1];
    std::vector<std::uint32_t> column(static_cast<std::size_t>(c_.in_per_group() * taps));
    for (auto const& t : tiles) {
      require<shape_error>(t.channels.count() * lines() * x_pitch <= std::int64_t{0xffffffff},
                           "conv2d: expected strips of at most 2^32 elements, got ",
                           t.channels.count() * lines() * x_pitch);
      for (auto c = t.first_column; c < t.last_column; ++c) {
        auto const& row = rows_.taps[static_cast<std::size_t>(c % taps / c_.kernel[1])];
        auto const& col = cols_.taps[static_cast<std::size_t>(c % c_.kernel[1])];
        auto const strip = (c / taps - t.channels.first) * lines() + row.line * std::ssize(cols_.lines) + col.line;
        column[static_cast<std::size_t>(c)] =
            static_cast<std::uint32_t>(strip * x_pitch + row.shift * cols_.period + col.shift);
      }
    }
    return column;
  }

  /// Strips of the output channels [first, last).
  void pack_dy(std::span<band const> bands, std::int64_t first, std::int64_t last, std::int64_t pitch,
               R* strips) const {
    visit(dy_.type(), [&]<class T>() {
      auto const dy = dy_.template as<T>();
      dense_memory<T const> const readable{dy};
      for (auto o = first; o < last; ++o, strips += pitch)
        pack_strip<T>(
            bands, pitch, strips, 0, dy_pattern_, ahead_of(o, last) * dy.stride[1], readable, [&](band const& b) {
              return rows_of_band<T>{0,
                                     {dy.data + b.image * dy.stride[0] + o * dy.stride[1] + b.first_row * dy.stride[2],
                                      b.rows, dy.stride[2], dy.stride[3]}};
            });
    });
  }

  /// Strips of the input channels [first, last).
  void pack_x(std::span<band const> bands, std::int64_t first, std::int64_t last, std::int64_t pitch, R* strips) const {
    visit(x_.type(), [&]<class T>() {
      auto const x = x_.template as<T>();
      dense_memory<T const> const readable{x};
      auto const row_stride = c_.geometry.stride[0], col_stride = c_.geometry.stride[1];
      for (auto i = first; i < last; ++i)
        for (auto const& row : rows_.lines)
          for (std::size_t l = 0; l < cols_.lines.size(); ++l, strips += pitch) {
            auto const& col = cols_.lines[l];
            pack_strip<T>(
                bands, pitch, strips, aligned_ ? 0 : col.place, x_patterns_[l], ahead_of(i, last) * x.stride[1],
                readable, [&](band const& b) {
                  auto const begin = std::max(row.place, b.first_row);  // of the line's numbers
                  auto const end = std::min(row.place + row.length, b.first_row + b.rows + rows_.halo);
                  return rows_of_band<T>{
                      begin - b.first_row,
                      {x.data + b.image * x.stride[0] + i * x.stride[1] +
                           (row.first + (begin - row.place) * row_stride) * x.stride[2] + col.first * x.stride[3],
                       std::max<std::int64_t>(0, end - begin), row_stride * x.stride[2], col_stride * x.stride[3]}};
                });
          }
    });
  }

  /// From channel c to the one before `last` that is asked for while c is copied.
  [[nodiscard]] static std::int64_t ahead_of(std::int64_t c, std::int64_t last) {
    constexpr std::int64_t channels = 4;
    return std::min(channels, last - 1 - c);
  }

  /// Pixels for a strip from the band's row `first` on.
  template <class T>
  struct rows_of_band {
    std::int64_t first;
    pixel_rows<T const> pixels;
  };

  /// @param start    number of a strip's row where the pattern begins
  /// @param rows_of  band → rows_of_band
  template <class T, class F>
  void pack_strip(std::span<band const> bands, std::int64_t pitch, R* strip, std::int64_t start,
                  row_pattern<R> const& pattern, std::int64_t ahead, dense_memory<T const> const& readable,
                  F&& rows_of) const {
    bool const whole_rows = pattern.size() == cols_.period;
    if (!whole_rows) std::fill_n(strip, pitch, R{0});
    R* end = strip;
    for (auto const& b : bands) {
      auto const rows = rows_of(b);
      if (rows.pixels.count == 0) continue;
      R* const to = strip + b.at + rows.first * cols_.period;
      if (whole_rows) std::fill(end, to, R{0});
      copy_rows<R, T>(rows.pixels, ahead, readable, pattern, to + start, cols_.period);
      end = to + rows.pixels.count * cols_.period;
    }
    if (whole_rows) std::fill(end, strip + pitch, R{0});
  }

  static constexpr std::int64_t together_ =
      2 * panel_length<R>;  // X of a block of columns still fits the first-level cache
  conv2d_shape c_;
  const_tensor_view dy_;
  const_tensor_view x_;
  strip_axis rows_;
  strip_axis cols_;
  row_pattern<R> dy_pattern_;
  std::vector<row_pattern<R>> x_patterns_;  ///< of each line of a row
  bool aligned_ = false;                    ///< a copy for each column of the kernel
  std::int64_t across_ = 1;                 ///< images side by side
};

}  // namespace sara::detail
