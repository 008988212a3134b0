// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include <sara/backend/host/lanes.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

/// Rows of pixels, copied to strips.
namespace sara::detail {

/// Rows of numbers that follow each other at a pitch, with a stride between neighbours.
template <class T>
struct pixel_rows {
  T* data;
  std::int64_t count;
  std::int64_t pitch;
  std::int64_t stride;
};

/// The memory of a dense tensor, none of others: what lies between their numbers may be somebody else's.
template <class T>
class dense_memory {
 public:
  explicit dense_memory(entries<T> const& t) : dense_{t.dense}, first_{t.data}, last_{t.data + t.count} {}
  [[nodiscard]] bool holds(T* from, T* to) const { return dense_ && first_ <= from && to <= last_; }

 private:
  bool dense_;
  T* first_;
  T* last_;
};

/// What a row of a strip has of an image: as many numbers as the mask, of which [place, place + length) are pixels, all
/// others zero.
template <Real R>
struct row_pattern {
  std::int64_t place, length;
  std::vector<bits_of_number<R>> mask;  ///< all ones for a pixel, else 0

  row_pattern(std::int64_t size, std::int64_t first, std::int64_t count)
      : place{first}, length{count}, mask(static_cast<std::size_t>(size)) {
    std::fill_n(mask.begin() + first, count, ~bits_of_number<R>{0});
  }
  [[nodiscard]] std::int64_t size() const { return std::ssize(mask); }
};

/// copy_rows in pieces of Piece numbers, or a half or fourth of them down to 16 bytes, with masks instead of branches:
/// reads what lies beside the pixels.
/// @return  whether a row is a whole number of pieces, and was copied
template <std::int64_t Piece, Real R>
SARA_INLINE bool copy_rows_in_pieces(pixel_rows<R const> from, std::int64_t ahead, row_pattern<R> const& pattern, R* to,
                                     std::int64_t to_pitch) {
  auto const size = pattern.size();
  if (size % Piece != 0) {
    if constexpr (Piece * sizeof(R) > 16)
      return copy_rows_in_pieces<Piece / 2, R>(from, ahead, pattern, to, to_pitch);
    else
      return false;
  }
  typedef bits_of_number<R> piece
      __attribute__((vector_size(Piece * sizeof(R))));  // NOLINT(modernize-use-using): as lanes_of
  auto const* const mask = pattern.mask.data();
  from.data -= pattern.place;
  for (std::int64_t r = 0; r < from.count; ++r, from.data += from.pitch, to += to_pitch)
    for (std::int64_t w = 0; w < size; w += Piece) {
      piece numbers, ones;
      __builtin_prefetch(from.data + ahead + w);
      std::memcpy(&numbers, from.data + w, sizeof numbers);
      std::memcpy(&ones, mask + w, sizeof ones);
      numbers &= ones;
      std::memcpy(to + w, &numbers, sizeof numbers);
    }
  return true;
}

/// to[w] = from[w · stride] for w < n.
template <Real R, Scalar T>
void copy_numbers(T const* from, std::int64_t stride, std::int64_t n, R* to) {
  if constexpr (std::is_same_v<T, R>)
    if (stride == 1) {
      std::copy_n(from, n, to);
      return;
    }
  for (std::int64_t w = 0; w < n; ++w) to[w] = static_cast<R>(widen(from[w * stride]));
}

/// Row r of `from`, whose first number is the pattern's first pixel, to to + r · to_pitch. Asks for what lies `ahead`
/// elements further and is copied soon: such rows are too short for the hardware to see a stream in them.
/// @param readable  the memory of the whole tensor
template <Real R, Scalar T>
SARA_INLINE void copy_rows(pixel_rows<T const> from, std::int64_t ahead, dense_memory<T const> const& readable,
                           row_pattern<R> const& pattern, R* to, std::int64_t to_pitch) {
  auto const place = pattern.place, length = pattern.length;
  if constexpr (std::is_same_v<T, R>)
    if (T const* const first = from.data - place;
        from.stride == 1 &&
        (length == pattern.size() || readable.holds(first, first + (from.count - 1) * from.pitch + pattern.size())))
      if (copy_rows_in_pieces<static_cast<std::int64_t>(lane_count<R>), R>(from, ahead, pattern, to, to_pitch)) return;
  constexpr auto line = static_cast<std::int64_t>(64 / sizeof(T));
  for (std::int64_t r = 0; r < from.count; ++r, from.data += from.pitch, to += to_pitch) {
    for (std::int64_t w = 0; w < length * from.stride; w += line) __builtin_prefetch(from.data + ahead + w);
    std::fill_n(to, place, R{0});
    copy_numbers(from.data, from.stride, length, to + place);
    std::fill_n(to + place + length, pattern.size() - place - length, R{0});
  }
}

}  // namespace sara::detail
