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

TEST_CASE("neither first nor last pixel of a tensor is passed, and what is beside a row may be NaN") {
  std::vector<float> pixels(32, std::numeric_limits<float>::quiet_NaN());
  std::fill_n(pixels.begin() + 8, 16, 1.0F);
  // One row; the memory around it is not the tensor's.
  auto const row = sara::const_tensor_view{sara::view(pixels.data() + 8, {1, 16})}.as<float>();
  auto const of = [&](float const* first, std::int64_t place) {
    sara::detail::row_pattern<float> const pattern{16, place, 15};
    std::vector<float> out(16);
    sara::detail::copy_rows<float, float>({first, 1, 16, 1}, 0, sara::detail::dense_memory<float const>{row}, pattern,
                                          out.data(), 16);
    return out;
  };
  std::vector<float> left(16, 1), right(16, 1);
  left.front() = right.back() = 0;
  CHECK(of(row.data, 1) == left);
  CHECK(of(row.data + 1, 0) == right);
}
