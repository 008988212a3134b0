// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include <sara/backend/host/buffer.hpp>
#include <sara/backend/host/lanes.hpp>
#include <sara/backend/order.hpp>
#include <sara/tensor/view.hpp>

#if defined(__SSE2__) && !defined(__CUDACC__)
#include <immintrin.h>
#endif

namespace sara::detail {

/// Entries of one task of a selection pass; fixed, so that results do not depend on the threads, and so few that a
/// number of 16 bits tells them apart.
inline constexpr std::int64_t selection_range = 1 << 15;

/// Entries that are looked at together, several times if need be: few enough that looking overlaps with reading.
inline constexpr std::int64_t selection_block = 1 << 9;

inline constexpr std::size_t word_entries = 64;

/// A bit for each entry of a block, that of entry i in word i / 64.
using block_mask = std::array<std::uint64_t, selection_block / word_entries>;

[[nodiscard]] inline std::int64_t count_of(block_mask const& mask) {
  std::int64_t n = 0;
  for (auto const word : mask) n += std::popcount(word);
  return n;
}

[[nodiscard]] inline block_mask without(block_mask mask, block_mask const& others) {
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] &= ~others[i];
  return mask;
}

/// Bit i of the result is byte i of 64, which are 0 or 0xff each.
[[nodiscard]] inline std::uint64_t bits_of(std::uint8_t const* bytes) {
#if defined(__AVX512BW__) && !defined(__CUDACC__)
  return _mm512_movepi8_mask(_mm512_loadu_si512(bytes));
#else
  std::uint64_t bits = 0;
#if defined(__SSE2__) && !defined(__CUDACC__)
  for (int i = 0; i < 64; i += 16) {
    auto const sixteen = _mm_movemask_epi8(_mm_loadu_si128(reinterpret_cast<__m128i const*>(bytes + i)));
    bits |= std::uint64_t{static_cast<std::uint32_t>(sixteen)} << i;
  }
#else
  for (int i = 0; i < 64; i += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, bytes + i, sizeof eight);
    bits |=
        (eight & 0x0101010101010101u) * 0x0102040810204080u >> 56 << i;  // the product gathers them in its upper byte
  }
#endif
  return bits;
#endif
}

/// Entries of a range by their numbers in it, ascending.
class entry_list {
 public:
  [[nodiscard]] std::span<std::uint16_t const> numbers() const {
    return {numbers_.data(), static_cast<std::size_t>(count_)};
  }

  /// Appends the set bits of a block's mask, of which bit 0 is entry `first`.
  void append(block_mask const& mask, std::int64_t first) {
    for (std::size_t i = 0; i < mask.size(); ++i)
      append(mask[i], static_cast<std::uint16_t>(first + static_cast<std::int64_t>(i * word_entries)));
  }

 private:
  /// Many at a time without asking how many there are: a branch for each bit costs more than numbers that are
  /// overwritten.
  void append(std::uint64_t word, std::uint16_t first) {
    auto* const to = numbers_.data() + count_;
    auto const n = std::popcount(word);
#if defined(__AVX512VBMI2__) && !defined(__CUDACC__)
    alignas(64) static constexpr auto all = [] {
      std::array<std::uint8_t, word_entries> bytes{};
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);
      return bytes;
    }();
    auto const set = _mm512_maskz_compress_epi8(word, _mm512_load_si512(all.data()));
    auto const list_half = [&](__m256i half, int at) {  // extracted with a mask: GCC 12 warns of what is without
      auto const numbers = _mm512_maskz_cvtepu8_epi16(~std::uint32_t{0}, half);
      _mm512_storeu_si512(to + at, _mm512_add_epi16(numbers, _mm512_set1_epi16(static_cast<short>(first))));
    };
    list_half(_mm512_maskz_extracti64x4_epi64(0xf, set, 0), 0);
    if (n > 32) list_half(_mm512_maskz_extracti64x4_epi64(0xf, set, 1), 32);
#else
    for (int listed = 0; listed < n; listed += 8)
      for (int i = 0; i < 8; ++i) {
        to[listed + i] = static_cast<std::uint16_t>(first + std::countr_zero(word));
        word &= word - 1;
      }
#endif
    count_ += n;
  }

  std::int64_t count_ = 0;
  host_buffer<std::uint16_t> numbers_ = host_buffer<std::uint16_t>::for_overwrite(selection_range + word_entries);
};

/// A block of a tensor's entries, widened: in place where they are dense Reals, else through a buffer in cache.
template <Scalar T>
class entry_block {
 public:
  using real = widened<T>;

  /// The entries [first, first + selection_block) of weights, or as many as there are.
  void read(entries<T const> const& weights, std::int64_t first) {
    first_ = first;
    count_ = std::min(selection_block, weights.count - first);
    all_finite_ = false;
    constexpr auto ahead = static_cast<std::int64_t>((16 << 10) / sizeof(T));
    bool const goes_on = weights.dense && weights.count - first >= ahead + selection_block;
    ahead_ = goes_on ? reinterpret_cast<char const*>(weights.data + first + ahead) : nullptr;
    at_ = in_place(weights);
    if (at_ == nullptr) {
      at_ = widened_.data();
      if (weights.dense)
        for (std::int64_t i = 0; i < count_; ++i)
          widened_[static_cast<std::size_t>(i)] = widen(weights.data[first + i]);
      else
        for (std::int64_t i = 0; i < count_; ++i) widened_[static_cast<std::size_t>(i)] = widen(weights[first + i]);
    }
  }

  /// NaN and infinite entries: where the exponent's bits are all set, as a rule nowhere.
  [[nodiscard]] std::int64_t not_finite() const {
    if (all_finite_) return 0;
    std::int64_t n = 0;
    for (std::int64_t i = 0; i < count_; ++i) n += !is_finite(at_[i]);
    return n;
  }

  /// The finite entries whose score is_below; false of what lies past the last entry. Sees on the way whether all are
  /// finite.
  template <Score S>
  [[nodiscard]] block_mask below(S const& score, below_key<score_of<S, T>> const& is_below) {
    bits exponents = 0;
    auto const mask = mask_of([&](real w, std::int64_t position) {
      exponents |= (std::bit_cast<bits>(w) & infinity_) + exponent_unit_;  // ones, and no other, carry into the sign
      return is_below(score(w, position));
    });
    all_finite_ = exponents >> (8 * sizeof(bits) - 1) == 0;
    if (all_finite_) return mask;
    return mask_of([&](real w, std::int64_t position) { return is_finite(w) && is_below(score(w, position)); });
  }

 private:
  [[nodiscard]] real const* in_place(entries<T const> const& weights) const {
    if constexpr (Real<T>)
      if (weights.dense) return weights.data + first_;
    return nullptr;
  }

  /// Answers as bytes first, in a loop that compilers vectorise whatever the score.
  template <class Found>
  [[nodiscard]] block_mask mask_of(Found const& found) const {
    std::array<std::uint8_t, selection_block> answers;
    auto const answer = [&](std::int64_t i) {
      answers[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(-static_cast<int>(found(at_[i], first_ + i)));
    };
    if (count_ == selection_block) {  // a number of steps that the compiler knows
      for (std::int64_t i = 0; i < selection_block; ++i) answer(i);
    } else {
      answers.fill(0);
      for (std::int64_t i = 0; i < count_; ++i) answer(i);
    }
    block_mask mask;
    for (std::size_t word = 0; word < mask.size(); ++word) {
      if (ahead_ != nullptr)
        for (std::size_t byte = 0; byte < word_entries * sizeof(T); byte += 64)
          __builtin_prefetch(ahead_ + word * word_entries * sizeof(T) + byte);
      mask[word] = bits_of(answers.data() + word * word_entries);
    }
    return mask;
  }

  using bits = bits_of_number<real>;
  static constexpr auto infinity_ = std::bit_cast<bits>(std::numeric_limits<real>::infinity());
  static constexpr bits exponent_unit_ = infinity_ & ~(infinity_ << 1);
  [[nodiscard]] static bool is_finite(real w) { return (std::bit_cast<bits>(w) & infinity_) != infinity_; }

  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
  bool all_finite_ = false;      // as far as is known
  char const* ahead_ = nullptr;  // a later block, to be fetched while this one is looked at
  real const* at_ = nullptr;
  std::array<real, selection_block> widened_;
};

}  // namespace sara::detail
