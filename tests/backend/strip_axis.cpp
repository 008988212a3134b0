// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include <sara/backend/host/strip_axis.hpp>

#include "../support/random.hpp"

namespace {

using sara::detail::convolution_axis;
using sara::detail::strip_axis;

/// Empty if every output sees its pixel under every tap, or a zero where there is none, also where lines follow each
/// other at their period.
std::string fault_of(strip_axis const& lines, convolution_axis const& axis) {
  if (std::ssize(lines.taps) != axis.kernel) return "a tap missing";
  for (std::int64_t k = 0; k < axis.kernel; ++k) {
    auto const& tap = lines.taps[static_cast<std::size_t>(k)];
    auto const& line = lines.lines.at(static_cast<std::size_t>(tap.line));
    if (line.place + line.length > lines.period) return "a line longer than its period";
    if (tap.shift < 0 || tap.shift > lines.halo) return "a shift beyond the halo";
    for (std::int64_t o = 0; o < axis.out; ++o) {
      auto const pixel = o * axis.stride + k * axis.dilation - axis.padding;
      auto const number = (o + tap.shift) % lines.period;  // past the end: that of the next line
      bool const is_pixel = o + tap.shift < lines.period && number >= line.place && number < line.place + line.length;
      if (is_pixel != (pixel >= 0 && pixel < axis.size)) return "a pixel in place of a zero, or a zero of a pixel";
      if (is_pixel && line.first + (number - line.place) * axis.stride != pixel) return "another pixel";
      if (!is_pixel && number >= line.place && number < line.place + line.length) return "a pixel of the next line";
    }
  }
  return "";
}

}  // namespace

TEST_CASE("every output sees its pixel under every tap, through lines of phases and of taps") {
  sara::test::sequence numbers{"axis"};
  int checked = 0;
  for (int i = 0; i < 2000; ++i) {
    convolution_axis axis{numbers.integer(1, 12), 0,
                          numbers.integer(1, 5),  numbers.integer(1, 4),
                          numbers.integer(0, 7),  numbers.integer(1, 3)};
    auto const reach = axis.size + 2 * axis.padding - axis.dilation * (axis.kernel - 1) - 1;
    if (reach < 0) continue;
    axis.out = reach / axis.stride + 1;
    CAPTURE(i);
    CHECK(fault_of(sara::detail::phase_lines(axis), axis) == "");
    CHECK(fault_of(sara::detail::tap_lines(axis), axis) == "");
    ++checked;
  }
  CHECK(checked > 1000);
}
