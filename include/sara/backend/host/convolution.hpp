// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include <sara/backend/convolution.hpp>
#include <sara/backend/host/strips.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

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

/// Asks for rows that are to be copied soon: they are too short for the hardware to see a stream in them. Inline, as
/// GCC drops calls of a function that does nothing else.
template <Scalar T>
SARA_INLINE void prefetch_rows(pixel_rows<T const> const& from, std::int64_t rows, std::int64_t width) {
  constexpr auto line = static_cast<std::int64_t>(64 / sizeof(T));
  if (from.stride != 1) return;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t w = 0; w < width; w += line) __builtin_prefetch(from.data + r * from.pitch + w);
}

/// One axis of a convolution: output o sees pixel o · stride + k · dilation - padding under tap k.
struct convolution_axis {
  std::int64_t size, out, kernel, stride, padding, dilation;
};

/// The pixels of an axis as lines of numbers, with zeros where a tap looks over an edge.
struct strip_axis {
  /// Numbers [place, place + length) of a line are the pixels first, first + stride, …, all others zero.
  struct line {
    std::int64_t first, place, length;
  };
  /// Output o sees number o + shift of a line.
  struct tap {
    std::int64_t line, shift;
  };
  std::vector<line> lines;
  std::vector<tap> taps;
  std::int64_t period = 0;  ///< from a line's start to the start of the same line of the next row or image
  std::int64_t halo = 0;    ///< the largest shift
};

[[nodiscard]] constexpr std::int64_t quotient_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

/// A line for each phase, a pixel's index modulo the stride: every pixel once. Lines follow each other so closely that
/// one ends in the zeros before the next.
[[nodiscard]] inline strip_axis phase_lines(convolution_axis const& a) {
  strip_axis out;
  auto const margin = quotient_up(a.padding, a.stride);
  std::int64_t longest = 0;
  for (std::int64_t k = 0; k < a.kernel; ++k) {
    auto const seen = k * a.dilation - a.padding + margin * a.stride;  // by output 0, from the margin's start on
    strip_axis::line const line{seen % a.stride, margin,
                                std::max<std::int64_t>(0, quotient_up(a.size - seen % a.stride, a.stride))};
    auto const same = [&](strip_axis::line const& l) { return l.first == line.first; };
    auto const found = std::find_if(out.lines.begin(), out.lines.end(), same) - out.lines.begin();
    if (found == std::ssize(out.lines)) out.lines.push_back(line);
    out.taps.push_back({found, seen / a.stride});
    out.halo = std::max(out.halo, seen / a.stride);
    longest = std::max(longest, line.length);
  }
  out.period = std::max(longest + margin, a.out + std::max<std::int64_t>(0, out.halo - margin));
  return out;
}

/// A line for each tap, as long as the output: a copy more a tap, but nothing is shifted.
[[nodiscard]] inline strip_axis tap_lines(convolution_axis const& a) {
  strip_axis out;
  out.period = a.out;
  for (std::int64_t k = 0; k < a.kernel; ++k) {
    auto const seen = k * a.dilation - a.padding;
    auto const first = std::clamp<std::int64_t>(quotient_up(-seen, a.stride), 0, a.out);
    auto const last = std::clamp<std::int64_t>(quotient_up(a.size - seen, a.stride), first, a.out);
    out.taps.push_back({k, 0});
    out.lines.push_back({first * a.stride + seen, first, last - first});
  }
  return out;
}

/// Output rows [first_row, first_row + rows) of an image; the first number of the first is number `at` of a strip.
struct band {
  std::int64_t image, first_row, rows, at;
};

/// What is packed and multiplied at a time.
struct group_of_bands {
  std::vector<band> bands;
  std::int64_t length;  ///< of a strip, padded
};

/// From this density on, a convolution copies the pixels for each column of the kernel: loads that do not cross cache
/// lines are then worth more than the copies cost.
inline constexpr double aligned_from = 0.05;

/// A convolution whose strips are packed and multiplied some images, or a part of one, at a time, so that the workspace
/// stays bounded.
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
      : c_{shape}, dy_{dy}, x_{x}, rows_{phase_lines(axis(0, c_.height, c_.out_height))} {}

  /// Workspace: over all threads twice strip_budget elements, or what two panels of all channels need; more by what
  /// several threads pack alike.
  template <Positions P>
  void add(thread_pool& pool, P positions, host_sampling_plan const& plan, R* out) {
    auto const* const columns = plan.columns(positions);
    if (positions.count() == 0 || c_.batch == 0 || c_.out_height == 0 || c_.out_width == 0) return;
    choose_columns(static_cast<double>(positions.count()) / static_cast<double>(positions.shape().size()));
    auto const groups = this->groups();
    pool.parallel_for(std::ssize(plan.parts()), [&](std::int64_t i) {
      add_part(plan, plan.parts()[static_cast<std::size_t>(i)], groups, columns, out);
    });
  }

 private:
  /// Input channels that a part of the plan sees: numbers [first, last) of each of these groups.
  struct channel_range {
    std::int64_t first_group, last_group;
    std::int64_t first, last;
    [[nodiscard]] std::int64_t count() const { return last - first; }
  };

  /// What one part of the plan adds, by the calling thread.
  void add_part(host_sampling_plan const& plan, host_sampling_plan::part const& part,
                std::vector<group_of_bands> const& groups, std::uint16_t const* columns, R* out) const {
    auto const taps = c_.kernel[0] * c_.kernel[1];
    channel_range const channels{part.first_row / c_.out_per_group(), quotient_up(part.last_row, c_.out_per_group()),
                                 part.first_column / taps, quotient_up(part.last_column, taps)};
    struct workspace;
    for (auto const& [bands, length] : groups) {
      auto const dy_pitch = pitch_of(length);
      auto const x_pitch = pitch_of(length + rows_.halo * cols_.period + std::max(cols_.period, cols_.halo));
      auto const group_pitch = channels.count() * lines() * x_pitch;
      R* const dy_strips =
          scratch<workspace, R>(part.rows() * dy_pitch + (channels.last_group - channels.first_group) * group_pitch);
      R* const x_strips = dy_strips + part.rows() * dy_pitch;
      pack_dy(bands, part.first_row, part.last_row, dy_pitch, dy_strips);
      for (auto group = channels.first_group; group < channels.last_group; ++group)
        pack_x(bands, group * c_.in_per_group() + channels.first, group * c_.in_per_group() + channels.last, x_pitch,
               x_strips + (group - channels.first_group) * group_pitch);
      auto const column = column_offsets(channels, x_pitch);
      auto const reduction = cut_panels<R>(length, panels_together_, panel_length<R>, panel_length<R>);
      add_products(plan, part,
                   strips<R>{dy_strips, dy_pitch, part.first_row, x_strips, column.data(), c_.out_per_group(),
                             c_.geometry.groups > 1 ? group_pitch : 0},
                   std::span<panels const>{reduction}, columns, out);
    }
  }

  [[nodiscard]] convolution_axis axis(std::size_t i, std::int64_t size, std::int64_t out) const {
    auto const& g = c_.geometry;
    return {size, out, c_.kernel[i], g.stride[i], g.padding[i], g.dilation[i]};
  }

  /// Strips of an input channel.
  [[nodiscard]] std::int64_t lines() const { return std::ssize(rows_.lines) * std::ssize(cols_.lines); }

  void choose_columns(double density) {
    auto const cols = axis(1, c_.width, c_.out_width);
    if (density >= aligned_from) {
      cols_ = tap_lines(cols);
      aligned_ = true;
      across_ = std::max<std::int64_t>(1, vector_length<R> / c_.out_width);
      cols_.period *= across_;
      bool const fits = across_ == 1 || (across_ <= c_.batch && c_.out_height <= rows_at_a_time());
      if (cols_.period % vector_length<R> == 0 && fits) return;
    }
    cols_ = phase_lines(cols);
    aligned_ = false;
    across_ = 1;
  }

  /// Rows of all strips that fit into the budget, and at least the panels that are summed together. Twice the budget
  /// where each pixel is copied once: between two bands rows are packed for both.
  [[nodiscard]] std::int64_t rows_at_a_time() const {
    auto const x_strips = c_.in * lines();
    auto const budget = aligned_ ? strip_budget : 2 * strip_budget;
    return std::max(quotient_up(panels_together_ * panel_length<R>, cols_.period),
                    (budget / cols_.period - x_strips * rows_.halo) / (c_.out + x_strips));
  }

  /// Elements from the first output to the last of so many rows, padded.
  [[nodiscard]] std::int64_t length_of(std::int64_t rows) const {
    return padded_length<R>((rows - 1) * cols_.period + across_ * c_.out_width);
  }

  /// As many whole images as fit, or rows of one image, but fewer where that wastes less of the last panels.
  [[nodiscard]] std::vector<group_of_bands> groups() const {
    auto const fit = rows_at_a_time();
    // Units of `height` rows, `pitch` rows apart.
    auto const at_a_time = [&](std::int64_t units, std::int64_t height, std::int64_t pitch) {
      auto const cost = [&](std::int64_t n) { return quotient_up(units, n) * length_of((n - 1) * pitch + height); };
      auto const most = std::min(units, 1 + (fit - height) / pitch);
      auto best = most;
      for (auto n = most - 1; n > most / 2; --n)
        if (cost(n) < cost(best)) best = n;
      return best;
    };
    std::vector<group_of_bands> groups;
    if (c_.out_height <= fit) {
      auto const stacked = at_a_time(quotient_up(c_.batch, across_), c_.out_height, rows_.period);
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
    return (quotient_up(length, vector_length<R>) | 1) * vector_length<R>;
  }

  /// Where the strip of each weight column begins, for the columns of these channels.
  [[nodiscard]] std::vector<std::uint32_t> column_offsets(channel_range const& channels, std::int64_t x_pitch) const {
    require<shape_error>(channels.count() * lines() * x_pitch <= std::int64_t{0xffffffff},
                         "conv2d: expected strips of at most 2^32 elements, got ",
                         channels.count() * lines() * x_pitch);
    auto const taps = static_cast<std::size_t>(c_.kernel[0] * c_.kernel[1]);
    std::vector<std::uint32_t> column(static_cast<std::size_t>(c_.in_per_group()) * taps);
    auto* next = column.data() + static_cast<std::size_t>(channels.first) * taps;
    for (std::int64_t i = 0; i < channels.count(); ++i)
      for (auto const& row : rows_.taps)
        for (auto const& col : cols_.taps) {
          auto const strip = i * lines() + row.line * std::ssize(cols_.lines) + col.line;
          *next++ = static_cast<std::uint32_t>(strip * x_pitch + row.shift * cols_.period + col.shift);
        }
    return column;
  }

  /// Strips of the output channels [first, last).
  void pack_dy(std::span<band const> bands, std::int64_t first, std::int64_t last, std::int64_t pitch,
               R* strips) const {
    visit(dy_.type(), [&]<class T>() {
      auto const dy = dy_.template as<T>();
      auto const pixels = [&](band const& b, std::int64_t o) {
        return pixel_rows<T const>{dy.data + b.image * dy.stride[0] + o * dy.stride[1] + b.first_row * dy.stride[2],
                                   dy.stride[2], dy.stride[3]};
      };
      for (auto o = first; o < last; ++o, strips += pitch) {
        std::fill_n(strips, pitch, R{0});
        for (auto const& b : bands) {
          prefetch_rows<T>(pixels(b, std::min(o + ahead_, last - 1)), b.rows, c_.out_width);
          copy_rows<R, T>(pixels(b, o), b.rows, c_.out_width, strips + b.at, cols_.period);
        }
      }
    });
  }

  /// Strips of the input channels [first, last).
  void pack_x(std::span<band const> bands, std::int64_t first, std::int64_t last, std::int64_t pitch, R* strips) const {
    visit(x_.type(), [&]<class T>() {
      auto const x = x_.template as<T>();
      auto const row_stride = c_.geometry.stride[0], col_stride = c_.geometry.stride[1];
      for (auto i = first; i < last; ++i) {
        auto const later = (std::min(i + ahead_, last - 1) - i) * x.stride[1];
        for (auto const& row : rows_.lines)
          for (auto const& col : cols_.lines) {
            std::fill_n(strips, pitch, R{0});
            for (auto const& b : bands) {
              auto const begin = std::max(row.place, b.first_row);  // of the line's numbers
              auto const end = std::min(row.place + row.length, b.first_row + b.rows + rows_.halo);
              pixel_rows<T const> from{x.data + b.image * x.stride[0] + i * x.stride[1] +
                                           (row.first + (begin - row.place) * row_stride) * x.stride[2] +
                                           col.first * x.stride[3],
                                       row_stride * x.stride[2], col_stride * x.stride[3]};
              copy_rows<R, T>(from, end - begin, col.length,
                              strips + b.at + (begin - b.first_row) * cols_.period + col.place, cols_.period);
              from.data += later;
              if (&col == cols_.lines.data()) prefetch_rows<T>(from, end - begin, col.length);
            }
            strips += pitch;
          }
      }
    });
  }

  static constexpr std::int64_t panels_together_ = 2;  // the X of a block of columns still fits the first-level cache
  static constexpr std::int64_t ahead_ = 4;            // what a channel needs is asked for so many channels before
  conv2d_shape c_;
  const_tensor_view dy_;
  const_tensor_view x_;
  strip_axis rows_;
  strip_axis cols_;
  bool aligned_ = false;     ///< a copy for each column of the kernel
  std::int64_t across_ = 1;  ///< images side by side
};

}  // namespace sara::detail
