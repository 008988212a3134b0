// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

#include <sara/backend/first_at_least.hpp>
#include <sara/store/concept.hpp>

namespace sara {

/// One bit a weight, and the number of set bits before every block of 4,096: 1.016 bits a weight whatever the density.
/// lower_bound and contains: O(1) (at most 64 words counted); position: O(log size).
template <class Backend>
class bitmask {
 public:
  static constexpr std::int64_t word_bits = 64;
  static constexpr std::int64_t block_words = 64;

  struct ref_type {
    std::uint64_t const* words = nullptr;  // [⌈size / 64⌉]
    std::int64_t const* ranks = nullptr;   // [blocks], set bits before each block
    std::int64_t n = 0;
    matrix_shape matrix;

    [[nodiscard]] SARA_HOST_DEVICE std::int64_t count() const { return n; }
    [[nodiscard]] SARA_HOST_DEVICE matrix_shape shape() const { return matrix; }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t word_count() const {
      return (matrix.size() + word_bits - 1) / word_bits;
    }

    /// Whether p is one of the positions.
    [[nodiscard]] SARA_HOST_DEVICE bool contains(std::int64_t p) const {
      return (words[p / word_bits] >> (p % word_bits)) & 1u;
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t lower_bound(std::int64_t p) const {
      if (p >= matrix.size()) return n;
      auto const word = p / word_bits;
      auto slot = ranks[word / block_words];
      for (auto w = word / block_words * block_words; w < word; ++w) slot += std::popcount(words[w]);
      return slot + std::popcount(words[word] & ((std::uint64_t{1} << (p % word_bits)) - 1));
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t position(std::int64_t slot) const {
      std::int64_t found = 0;
      for_each(slot, slot + 1, [&found](std::int64_t, std::int64_t p) { found = p; });
      return found;
    }
    template <class F>
    SARA_HOST_DEVICE void for_each(std::int64_t first, std::int64_t last, F&& f) const {
      if (first >= last) return;
      auto const blocks = (word_count() + block_words - 1) / block_words;
      auto const block = detail::first_at_least(blocks, first + 1, [this](std::int64_t b) { return ranks[b]; }) - 1;
      auto word = block * block_words;
      auto slot = ranks[block];
      for (; slot + std::popcount(words[word]) <= first; ++word) slot += std::popcount(words[word]);
      auto bits = words[word];
      for (; slot < first; ++slot) bits &= bits - 1;
      while (slot < last) {
        for (; bits == 0; bits = words[word]) ++word;
        f(slot++, word * word_bits + std::countr_zero(bits));
        bits &= bits - 1;
      }
    }
  };

  bitmask(Backend const& backend, matrix_shape shape, std::int64_t const* positions, std::int64_t count)
      : shape_{shape}, count_{count} {
    auto const words = (shape.size() + word_bits - 1) / word_bits;
    auto const blocks = (words + block_words - 1) / block_words;
    words_ = backend.template allocate<std::uint64_t>(words);
    ranks_ = backend.template allocate<std::int64_t>(blocks);
    for_each(backend, all_positions{words}, word_of{positions, count, words_.data()});
    for_each(backend, all_positions{blocks}, rank_of{positions, count, ranks_.data()});
  }

  [[nodiscard]] ref_type ref() const { return {words_.data(), ranks_.data(), count_, shape_}; }
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  [[nodiscard]] std::int64_t bytes() const noexcept {
    return static_cast<std::int64_t>(words_.size() * sizeof(std::uint64_t) + ranks_.size() * sizeof(std::int64_t));
  }

  // How it is built; public, as nvcc takes no private type in a kernel's arguments.
  SARA_HOST_DEVICE static std::int64_t rank(std::int64_t const* positions, std::int64_t count, std::int64_t p) {
    return detail::first_at_least(count, p, [positions](std::int64_t i) { return positions[i]; });
  }
  struct word_of {
    std::int64_t const* positions;
    std::int64_t count;
    std::uint64_t* to;
    SARA_HOST_DEVICE void operator()(std::int64_t word, std::int64_t) const {
      std::uint64_t bits = 0;
      for (auto i = rank(positions, count, word * word_bits); i < count && positions[i] < (word + 1) * word_bits; ++i)
        bits |= std::uint64_t{1} << (positions[i] % word_bits);
      to[word] = bits;
    }
  };
  struct rank_of {
    std::int64_t const* positions;
    std::int64_t count;
    std::int64_t* to;
    SARA_HOST_DEVICE void operator()(std::int64_t block, std::int64_t) const {
      to[block] = rank(positions, count, block * block_words * word_bits);
    }
  };

 private:
  matrix_shape shape_;
  std::int64_t count_ = 0;
  typename Backend::template buffer<std::uint64_t> words_;
  typename Backend::template buffer<std::int64_t> ranks_;
};

}  // namespace sara
