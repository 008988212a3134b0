// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <vector>

#include <sara/backend/host/score_mask.hpp>
#include <sara/backend/order.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// The mask without all but its lowest n set bits; takes from n as many as it keeps.
[[nodiscard]] inline std::uint64_t lowest_set(std::uint64_t mask, std::int64_t& n) {
  if (n >= std::popcount(mask)) {
    n -= std::popcount(mask);
    return mask;
  }
  std::uint64_t kept = 0;
  for (; n > 0; --n) {
    kept |= mask & (~mask + 1);
    mask &= mask - 1;
  }
  return kept;
}

/// One pass over the weights, that leaves a bit an entry; then positions are written from the bits.
/// Complexity: one read of the tensor. Extra memory: one bit an entry, two where the cut has ties.
template <Score S>
[[nodiscard]] compaction<std::vector<std::int64_t>> compact(thread_pool& pool, scored_tensor<S> const& scored,
                                                            key_cut limit) {
  return visit(scored.tensor.type(), [&]<class T>() {
    struct counts {
      std::int64_t below = 0, ties = 0, not_finite = 0;
    };
    constexpr auto blocks_of_range = selection_range / selection_block;
    bool const has_ties = limit.ties > 0 && limit.bound != never_key;
    auto const weights = scored.tensor.template as<T>();
    auto const blocks = ranges_of(weights.count, selection_block);
    auto const last = [&](std::int64_t range) { return std::min(blocks, (range + 1) * blocks_of_range); };
    auto const below = std::make_unique_for_overwrite<block_mask[]>(static_cast<std::size_t>(blocks));
    auto const ties = std::make_unique_for_overwrite<block_mask[]>(static_cast<std::size_t>(has_ties ? blocks : 0));
    std::vector<counts> found(static_cast<std::size_t>(ranges_of(weights.count, selection_range)));
    pool.parallel_for(std::ssize(found), [&](std::int64_t range) {
      entry_block<T> entries;
      counts c;
      for (auto block = range * blocks_of_range; block < last(range); ++block) {
        entries.read(weights, block * selection_block);
        auto& mask = below[static_cast<std::size_t>(block)] = entries.below(scored.score, limit.bound);
        c.below += count_of(mask);
        c.not_finite += entries.not_finite();
        if (has_ties) {
          auto& tied = ties[static_cast<std::size_t>(block)] = entries.below(scored.score, limit.bound + 1);
          for (std::size_t i = 0; i < tied.size(); ++i) tied[i] &= ~mask[i];
          c.ties += count_of(tied);
        }
      }
      found[static_cast<std::size_t>(range)] = c;
    });

    compaction<std::vector<std::int64_t>> out;
    std::vector<std::int64_t> first_slot;
    std::vector<std::int64_t> ties_left;
    for (auto const& c : found) {
      first_slot.push_back(out.count);
      ties_left.push_back(limit.ties - out.ties);
      auto const taken = std::min(c.ties, limit.ties - out.ties);
      out.ties += taken;
      out.count += c.below + taken;
      out.not_finite += c.not_finite;
    }
    out.positions.resize(static_cast<std::size_t>(out.count));
    pool.parallel_for(std::ssize(found), [&](std::int64_t range) {
      auto* slot = out.positions.data() + first_slot[static_cast<std::size_t>(range)];
      auto left = ties_left[static_cast<std::size_t>(range)];
      // by way of a buffer in cache: what is listed too much must not reach the next range's slots
      std::array<std::int64_t, selection_block + word_entries> listed;
      for (auto block = range * blocks_of_range; block < last(range); ++block) {
        auto* end = listed.data();
        for (std::size_t i = 0; i < block_mask{}.size(); ++i) {
          auto word = below[static_cast<std::size_t>(block)][i];
          if (has_ties) word |= lowest_set(ties[static_cast<std::size_t>(block)][i], left);
          end = list_set(word, block * selection_block + static_cast<std::int64_t>(i * word_entries), end);
        }
        slot = std::copy(listed.data(), end, slot);
      }
    });
    return out;
  });
}

}  // namespace sara::detail
