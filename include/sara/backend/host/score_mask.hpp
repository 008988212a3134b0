// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include <sara/backend/order.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Entries of one task of a selection pass; fixed, so that results do not depend on the threads.
inline constexpr std::int64_t selection_range = 1 << 16;

/// Entries that are looked at together, several times if need be: they fit the first-level cache.
inline constexpr std::int64_t selection_block = 1 << 11;

inline constexpr std::size_t word_entries = 64;

/// A bit for each entry of a block, that of entry i in word i / 64.
using block_mask = std::array<std::uint64_t, selection_block / word_entries>;

[[nodiscard]] inline std::int64_t count_of(block_mask const& mask) {
  std::int64_t n = 0;
  for (auto const word : mask) n += std::popcount(word);
  return n;
}

/// Appends the numbers of a word's set bits, from `first` on, to a buffer with room for 64. Eight at a time without
/// asking how many there are: a branch for each bit costs more than bits that are overwritten.
inline std::int64_t* list_set(std::uint64_t word, std::int64_t first, std::int64_t* to) {
  auto const n = std::popcount(word);
  for (int listed = 0; listed < n; listed += 8)
    for (int i = 0; i < 8; ++i) {
      to[listed + i] = first + std::countr_zero(word);
      word &= word - 1;
    }
  return to + n;
}

/// The same for a block; room for selection_block + 64.
inline std::int64_t* list_set(block_mask const& mask, std::int64_t first, std::int64_t* to) {
  for (std::size_t i = 0; i < mask.size(); ++i)
    to = list_set(mask[i], first + static_cast<std::int64_t>(i * word_entries), to);
  return to;
}

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
    bool const has_next = weights.dense && weights.count - first >= 2 * selection_block;
    ahead_ = has_next ? reinterpret_cast<char const*>(weights.data + first + selection_block) : nullptr;
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
    // NOLINTNEXTLINE(misc-redundant-expression): w - w is 0 exactly for what is finite
    return mask_of([&](real w, std::int64_t position) { return (w - w == 0) & is_below(score(w, position)); });
  }

 private:
  [[nodiscard]] real const* in_place(entries<T const> const& weights) const {
    if constexpr (Real<T>)
      if (weights.dense) return weights.data + first_;
    return nullptr;
  }

  /// Answers as bytes first, in a loop that compilers vectorise whatever the score, then eight bytes to eight bits.
  template <class Found>
  [[nodiscard]] block_mask mask_of(Found const& found) const {
    std::array<std::uint8_t, selection_block> answers;
    if (count_ == selection_block) {  // a number of steps that the compiler knows
      for (std::int64_t i = 0; i < selection_block; ++i)
        answers[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(found(at_[i], first_ + i));
    } else {
      answers.fill(0);
      for (std::int64_t i = 0; i < count_; ++i)
        answers[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(found(at_[i], first_ + i));
    }
    block_mask mask;
    for (std::size_t word = 0; word < mask.size(); ++word) {
      if (ahead_ != nullptr)
        for (std::size_t byte = 0; byte < word_entries * sizeof(T); byte += 64)
          __builtin_prefetch(ahead_ + word * word_entries * sizeof(T) + byte);
      mask[word] = 0;
      for (std::size_t byte = 0; byte < 8; ++byte) {
        std::uint64_t eight = 0;  // each 0 or 1; the product gathers them in its upper byte
        std::memcpy(&eight, &answers[word * word_entries + byte * 8], sizeof eight);
        mask[word] |= eight * 0x0102040810204080u >> 56 << byte * 8;
      }
    }
    return mask;
  }

  [[nodiscard]] static std::int64_t count_not_finite(real const* at, std::int64_t count) {
    using bits = std::conditional_t<sizeof(real) == 4, std::int32_t, std::int64_t>;
    constexpr auto infinity = std::bit_cast<bits>(std::numeric_limits<real>::infinity());
    bits n = 0;
    for (std::int64_t i = 0; i < count; ++i) n += (std::bit_cast<bits>(at[i]) & infinity) == infinity;
    return n;
  }

  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
  std::int64_t not_finite_ = 0;
  char const* ahead_ = nullptr;  // the next block, to be fetched while this one is looked at
  real const* at_ = nullptr;
  std::array<real, selection_block> widened_;
};

}  // namespace sara::detail
