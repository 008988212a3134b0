// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <sara/backend/order.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Entries of one task of a selection pass; fixed, so that results do not depend on the threads.
inline constexpr std::int64_t selection_range = 1 << 16;

/// Entries that are looked at together, several times if need be: they fit the first-level cache.
inline constexpr std::int64_t selection_block = 1 << 11;

inline constexpr std::int64_t word_entries = 64;
inline constexpr std::int64_t words_of_block = selection_block / word_entries;

/// A bit for each entry of a block, that of entry i in word i / 64.
using block_mask = std::array<std::uint64_t, words_of_block>;

[[nodiscard]] constexpr std::int64_t ranges_of(std::int64_t count, std::int64_t range) {
  return (count + range - 1) / range;
}

/// A block of a tensor's entries, widened: in place where they are dense Reals, else through a buffer in cache.
template <Scalar T>
class entry_block {
 public:
  using real = widened<T>;

  /// The entries [first, first + selection_block) of weights, or as many as there are.
  void read(entries<T const> const& weights, std::int64_t first) {
    first_ = first;
    count_ = std::min(selection_block, weights.count - first);
    at_ = in_place(weights);
    if (at_ == nullptr) {
      at_ = widened_.data();
      if (weights.dense)
        for (std::int64_t i = 0; i < count_; ++i)
          widened_[static_cast<std::size_t>(i)] = widen(weights.data[first + i]);
      else
        for (std::int64_t i = 0; i < count_; ++i) widened_[static_cast<std::size_t>(i)] = widen(weights[first + i]);
    }
    not_finite_ = count_not_finite(at_, count_);
  }

  [[nodiscard]] std::int64_t first() const { return first_; }
  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] real operator[](std::int64_t i) const { return at_[i]; }

  /// NaN and infinite entries: where the exponent's bits are all set, as a rule nowhere.
  [[nodiscard]] std::int64_t not_finite() const { return not_finite_; }

  /// The finite entries whose score has a key below the bound; false of what lies past the last entry.
  template <Score S>
  [[nodiscard]] block_mask below(S const& score, std::uint64_t bound) const {
    below_key<std::remove_cvref_t<decltype(score(real{}, first_))>> const is_below{bound};
    if (not_finite_ == 0) return mask_of([&](real w, std::int64_t position) { return is_below(score(w, position)); });
    return mask_of([&](real w, std::int64_t position) { return (w - w == 0) & is_below(score(w, position)); });
  }

 private:
  [[nodiscard]] real const* in_place(entries<T const> const& weights) const {
    if constexpr (Real<T>)
      if (weights.dense) return weights.data + first_;
    return nullptr;
  }

  /// Written for the compiler to vectorise: no branches, a fixed number of entries, no shift by a lane's own number.
  template <class Found>
  [[nodiscard]] block_mask mask_of(Found const& found) const {
    auto const bits_of = [&](std::int64_t from, std::int64_t n) {
      std::uint32_t bits = 0;
      for (std::int64_t i = 0; i < n; ++i) bits |= (0 - std::uint32_t{found(at_[from + i], first_ + from + i)}) & lane_bits[static_cast<std::size_t>(i)];
      return bits;
    };
    block_mask mask{};
    std::int64_t i = 0;
    for (; i + word_entries <= count_; i += word_entries)
      mask[static_cast<std::size_t>(i / word_entries)] = bits_of(i, 32) | std::uint64_t{bits_of(i + 32, 32)} << 32;
    if (i < count_)
      mask[static_cast<std::size_t>(i / word_entries)] =
          bits_of(i, std::min<std::int64_t>(count_ - i, 32)) |
          std::uint64_t{bits_of(i + 32, std::max<std::int64_t>(count_ - i - 32, 0))} << 32;
    return mask;
  }

  [[nodiscard]] static std::int64_t count_not_finite(real const* at, std::int64_t count) {
    using bits = std::conditional_t<sizeof(real) == 4, std::int32_t, std::int64_t>;
    constexpr auto infinity = std::bit_cast<bits>(std::numeric_limits<real>::infinity());
    bits n = 0;
    for (std::int64_t i = 0; i < count; ++i)
      n += (std::bit_cast<bits>(at[i]) & infinity) == infinity;
    return n;
  }

  static constexpr auto lane_bits = [] {
    std::array<std::uint32_t, 32> bits{};
    for (std::size_t i = 0; i < 32; ++i) bits[i] = std::uint32_t{1} << i;
    return bits;
  }();

  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
  std::int64_t not_finite_ = 0;
  real const* at_ = nullptr;
  std::array<real, selection_block> widened_;
};

}  // namespace sara::detail
