// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <sara/backend/host/pixel_rows.hpp>
#include <sara/tensor/traits.hpp>

#include "../support/random.hpp"

namespace {

/// Rows 1 and 2 of four rows of so many pixels, whose numbers [place, place + length) of `size` are those from pixel
/// `first` on, as copied to rows two numbers longer that are 7 before.
template <class R, class T>
std::vector<R> copied(sara::entries<T const> const& image, std::int64_t first, std::int64_t size, std::int64_t place,
                      std::int64_t length) {
  sara::detail::row_pattern<R> const pattern{size, place, length};
  std::vector<R> out(static_cast<std::size_t>(2 * (size + 2)), R{7});
  sara::detail::copy_rows<R, T>(
      {image.data + image.stride[0] + first * image.stride[1], 2, image.stride[0], image.stride[1]}, 0,
      sara::detail::dense_memory<T const>{image}, pattern, out.data(), size + 2);
  return out;
}

/// The same, number by number.
template <class R, class T>
std::vector<R> expected(sara::entries<T const> const& image, std::int64_t first, std::int64_t size, std::int64_t place,
                        std::int64_t length) {
  std::vector<R> out;
  for (std::int64_t r = 1; r < 3; ++r) {
    for (std::int64_t w = 0; w < size; ++w)
      out.push_back(w >= place && w < place + length
                        ? static_cast<R>(image.data[r * image.stride[0] + (first + w - place) * image.stride[1]])
                        : R{0});
    out.insert(out.end(), 2, R{7});
  }
  return out;
}

/// Whether 15 of 16 ones that follow each other in this tensor are copied beside a zero, on either side.
bool copies_between_zeros(sara::entries<float const> const& image, float const* ones) {
  for (std::int64_t const place : {0, 1}) {
    std::vector<float> out(16), expected(16, 1.0F);
    expected[place == 1 ? 0 : 15] = 0;
    sara::detail::copy_rows<float, float>({ones + 1 - place, 1, 16, 1}, 0,
                                          sara::detail::dense_memory<float const>{image}, {16, place, 15}, out.data(),
                                          16);
    if (out != expected) return false;
  }
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("rows of pixels between zeros, and nothing beside them", R, float, double) {
  for (std::int64_t const width : {1, 2, 3, 4, 8, 12, 16, 24, 32, 33}) {
    CAPTURE(width);
    auto const pixels = sara::test::uniform<R>("pixels", 8 * width);
    auto const dense = sara::view(pixels.data(), {4, width}).template as<R>();
    auto const apart = sara::const_tensor_view{pixels.data(), {4, width}, {2 * width, 1}}.template as<R>();
    auto const strided = sara::const_tensor_view{pixels.data(), {4, width}, {2 * width, 2}}.template as<R>();
    for (auto const& image : {dense, apart, strided})
      for (std::int64_t const shift : {-3, -1, 0, 1, 3}) {  // as the taps of a kernel
        CAPTURE(shift);
        auto const place = std::min(width, std::max<std::int64_t>(0, -shift));
        auto const length = std::max<std::int64_t>(0, width - std::abs(shift));
        auto const first = std::max<std::int64_t>(0, shift);
        CHECK(copied<R, R>(image, first, width, place, length) == expected<R, R>(image, first, width, place, length));
      }
  }
}

TEST_CASE("neither the first nor the last pixel of a tensor is passed, and what lies beside a row may be NaN") {
  std::vector<float> const alone(16, 1.0F);  // all that there is: the address sanitizer sees a read beside it
  CHECK(copies_between_zeros(sara::view(alone.data(), {1, 16}).as<float>(), alone.data()));

  std::vector<float> rows(3 * 16, std::numeric_limits<float>::quiet_NaN());
  std::fill_n(rows.begin() + 16, 16, 1.0F);
  sara::const_tensor_view const view{sara::view(rows.data(), {3, 16})};
  CHECK(copies_between_zeros(view.as<float>(), rows.data() + 16));
}
