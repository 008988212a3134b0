// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/host/buffer.hpp>
#include <sara/backend/host/score_mask.hpp>
#include <sara/backend/order.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// The lists of all ranges, one after the other in pieces of memory, each as long as those before it together.
class kept_lists {
 public:
  using list = std::span<std::uint16_t const>;

  /// @param most  entries that all lists have together
  explicit kept_lists(std::int64_t most) : most_{most} {}

  /// A copy, as long as this lives. Any thread may call it.
  [[nodiscard]] list keep(list numbers) {
    auto* const to = room(numbers.size());
    std::copy(numbers.begin(), numbers.end(), to);
    return {to, numbers.size()};
  }

 private:
  static constexpr std::int64_t shortest_piece_ = 1 << 18, longest_piece_ = 1 << 22;  // 8 MiB: on huge pages

  [[nodiscard]] std::uint16_t* room(std::size_t n) {
    std::lock_guard const lock{mutex_};
    if (pieces_.empty() || used_ + n > pieces_.back().size()) {
      auto const length = std::min(most_, std::clamp(held_, shortest_piece_, longest_piece_));
      pieces_.push_back(host_buffer<std::uint16_t>::for_overwrite(length));
      held_ += length;
      used_ = 0;
    }
    return pieces_.back().data() + std::exchange(used_, used_ + n);
  }

  std::mutex mutex_;
  std::int64_t most_;
  std::int64_t held_ = 0;  // numbers that all pieces have room for
  std::size_t used_ = 0;   // of the last piece
  std::vector<host_buffer<std::uint16_t>> pieces_;
};

/// One pass over the weights lists each range's entries; then positions are written from the lists, once their number
/// is known.
/// Complexity: one read of the tensor. Extra memory: two bytes a selected entry and a tie, in pieces of 512 KiB, then
/// twice as much, up to 8 MiB.
template <Score S>
[[nodiscard]] compaction<host_buffer<std::int64_t>> compact(thread_pool& pool, scored_tensor<S> const& scored,
                                                            key_cut limit) {
  return visit(scored.tensor.type(), [&]<class T>() {
    struct range_entries {
      kept_lists::list below, ties;
      std::int64_t not_finite = 0;
    };
    bool const has_ties = limit.ties > 0 && limit.bound != never_key;
    auto const weights = scored.tensor.template as<T>();
    below_key<score_of<S, T>> const is_below{limit.bound}, is_tie_or_below{has_ties ? limit.bound + 1 : limit.bound};
    kept_lists lists{weights.count};
    std::vector<range_entries> found(static_cast<std::size_t>(ceil_div(weights.count, selection_range)));
    pool.parallel_for(std::ssize(found), [&](std::int64_t range) {
      auto& f = found[static_cast<std::size_t>(range)];
      auto const start = range * selection_range;
      entry_block<T> block;
      entry_list below, ties;
      for (std::int64_t first = 0; first < std::min(selection_range, weights.count - start); first += selection_block) {
        block.read(weights, start + first);
        auto const mask = block.below(scored.score, is_below);
        below.append(mask, first);
        f.not_finite += block.not_finite();
        if (has_ties) ties.append(without(block.below(scored.score, is_tie_or_below), mask), first);
      }
      f.below = lists.keep(below.numbers());
      if (has_ties) f.ties = lists.keep(ties.numbers());
    });

    compaction<host_buffer<std::int64_t>> out;
    std::vector<std::int64_t> first_slot;
    for (auto& f : found) {
      first_slot.push_back(out.count);
      f.ties = f.ties.first(std::min(f.ties.size(), static_cast<std::size_t>(limit.ties - out.ties)));
      out.ties += std::ssize(f.ties);
      out.count += std::ssize(f.below) + std::ssize(f.ties);
      out.not_finite += f.not_finite;
    }
    out.positions = host_buffer<std::int64_t>::for_overwrite(out.count);
    pool.parallel_for(std::ssize(found), [&](std::int64_t range) {
      auto const& f = found[static_cast<std::size_t>(range)];
      auto* const to = out.positions.data() + first_slot[static_cast<std::size_t>(range)];
      auto* const end = std::merge(f.below.begin(), f.below.end(), f.ties.begin(), f.ties.end(), to);
      std::transform(to, end, to, [&](std::int64_t number) { return range * selection_range + number; });
    });
    return out;
  });
}

}  // namespace sara::detail
