// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <sara/backend/ceil_div.hpp>

namespace sara::detail {

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

/// A line for each phase, a pixel's index modulo the stride: every pixel once. Lines follow each other so closely that
/// one ends in the zeros before the next.
[[nodiscard]] inline strip_axis phase_lines(convolution_axis const& a) {
  strip_axis out;
  auto const margin = ceil_div(a.padding, a.stride);
  std::int64_t longest = 0;
  for (std::int64_t k = 0; k < a.kernel; ++k) {
    auto const seen = k * a.dilation - a.padding + margin * a.stride;  // by output 0, from the margin's start on
    strip_axis::line const line{seen % a.stride, margin,
                                std::max<std::int64_t>(0, ceil_div(a.size - seen % a.stride, a.stride))};
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
    auto const first = std::clamp<std::int64_t>(ceil_div(-seen, a.stride), 0, a.out);
    auto const last = std::clamp<std::int64_t>(ceil_div(a.size - seen, a.stride), first, a.out);
    out.taps.push_back({k, 0});
    out.lines.push_back({first * a.stride + seen, first, last - first});
  }
  return out;
}

}  // namespace sara::detail
