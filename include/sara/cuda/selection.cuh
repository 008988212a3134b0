// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include <sara/backend/order.hpp>
#include <sara/cuda/lanes.cuh>
#include <sara/tensor/view.hpp>

namespace sara::cuda::detail {

/// Entries whose bits share a word.
inline constexpr int word_entries = 64;

/// below[word], ties[word] = a bit for each of 64 entries; *not_finite += NaN and infinite weights. A warp takes some
/// words and asks for all their entries before it looks at the first: with a load of 4 bytes a thread under way,
/// the latency of sm_90's memory leaves a full device about half of its bandwidth (reckoned, not measured).
template <class T, class S>
struct mark_entries {
  static constexpr int words = 4;

  entries<T const> weights;
  S score;
  below_key<score_of<S, T>> is_below, is_tie_or_below;
  std::uint64_t* below;
  std::uint64_t* ties;  // null where none are wanted
  std::uint64_t* not_finite;

  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t group, Lanes lanes) const {
    constexpr int loads_of_word = word_entries / Lanes::count;
    auto const first_word = group * words;
    widened<T> loaded[words * loads_of_word];
    auto const load_each = [&](auto const& weight) {
      for (int k = 0; k < words * loads_of_word; ++k) {
        auto const i = first_word * word_entries + k * Lanes::count + lanes.id;
        loaded[k] = i < weights.count ? widen(weight(i)) : widened<T>{0};
      }
    };
    if (weights.dense)
      load_each([this](std::int64_t i) { return weights.data[i]; });
    else
      load_each([this](std::int64_t i) { return weights[i]; });
    int odd = 0;
    for (int j = 0; j < words; ++j) {
      std::uint64_t below_bits = 0, tie_bits = 0;
      for (int k = 0; k < loads_of_word; ++k) {
        auto const i = (first_word + j) * word_entries + k * Lanes::count + lanes.id;
        auto const w = loaded[j * loads_of_word + k];
        bool const finite = std::isfinite(w);
        bool selected = false, tied = false;
        if (finite && i < weights.count) {
          auto const s = score(w, i);
          selected = is_below(s);
          tied = !selected && is_tie_or_below(s);
        }
        below_bits |= std::uint64_t{lanes.ballot(selected)} << k * Lanes::count;
        tie_bits |= std::uint64_t{lanes.ballot(tied)} << k * Lanes::count;
        odd += std::popcount(lanes.ballot(!finite));
      }
      if (lanes.id != 0 || (first_word + j) * word_entries >= weights.count) continue;
      below[first_word + j] = below_bits;
      if (ties) ties[first_word + j] = tie_bits;
    }
    if (lanes.id == 0 && odd > 0) add_atomically(not_finite, static_cast<std::uint64_t>(odd));
  }
};

struct count_bits {
  std::uint64_t const* words;
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t operator()(std::int64_t word) const { return std::popcount(words[word]); }
};

/// below[word] |= those of the tied entries that are among the first `limit` of all.
struct take_ties {
  std::uint64_t const* ties;
  std::int64_t const* rank;  // ties before each word
  std::int64_t limit;
  std::uint64_t* below;
  SARA_HOST_DEVICE void operator()(std::int64_t word) const {
    auto left = limit - rank[word];
    for (auto bits = ties[word]; bits != 0 && left > 0; bits &= bits - 1, --left) below[word] |= bits & (~bits + 1);
  }
};

/// The positions of a word's set bits: few, so that a thread lists them.
struct list_entries {
  std::uint64_t const* words;
  std::int64_t const* first_slot;  // of each word
  std::int64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t word) const {
    auto slot = first_slot[word];
    for (auto bits = words[word]; bits != 0; bits &= bits - 1)
      to[slot++] = word * word_entries + std::countr_zero(bits);
  }
};

struct selection_counts {
  std::int64_t selected, ties;
  std::uint64_t not_finite;
};

/// The sums at the end of the scans, side by side for one copy to the host.
struct total_counts {
  std::uint64_t const *below, *ties;
  std::int64_t const *first_slot, *tie_rank;
  std::uint64_t const* not_finite;
  std::int64_t last;  // word
  selection_counts* to;
  SARA_HOST_DEVICE void operator()(std::int64_t) const {
    *to = {first_slot[last] + std::popcount(below[last]), ties ? tie_rank[last] + std::popcount(ties[last]) : 0,
           *not_finite};
  }
};

/// One pass over the weights leaves a bit an entry; a scan of their counts says where each word's positions go.
/// One read of the tensor; of bits and counts 6 % of that in float32, and 8 bytes a position written.
/// Extra memory: 2 bytes for 8 entries, 4 where the cut has ties, and what CUB's scan needs. Waits once, for the number
/// of positions.
template <class Executor, Score S>
[[nodiscard]] auto compact(Executor const& machine, scored_tensor<S> const& scored, key_cut limit) {
  compaction<typename Executor::template buffer<std::int64_t>> out;
  auto const words = (scored.tensor.size() + word_entries - 1) / word_entries;
  if (words == 0) return out;
  bool const has_ties = limit.ties > 0 && limit.bound != never_key;
  auto below = machine.template scratch<std::uint64_t>(words);
  auto ties = machine.template scratch<std::uint64_t>(has_ties ? words : 0);
  auto not_finite = machine.template scratch<std::uint64_t>(1);
  machine.set_zero(not_finite.data(), sizeof(std::uint64_t));
  visit(scored.tensor.type(), [&]<class T>() {
    using mark = mark_entries<T, S>;
    using limit_type = below_key<score_of<S, T>>;
    machine.call_each_by_lanes((words + mark::words - 1) / mark::words,
                               mark{scored.tensor.template as<T>(), scored.score, limit_type{limit.bound},
                                    limit_type{has_ties ? limit.bound + 1 : limit.bound}, below.data(),
                                    has_ties ? ties.data() : nullptr, not_finite.data()});
  });
  auto tie_rank = machine.template scratch<std::int64_t>(has_ties ? words : 0);
  if (has_ties) {
    machine.exclusive_sum(words, count_bits{ties.data()}, tie_rank.data());
    machine.call_each(words, take_ties{ties.data(), tie_rank.data(), limit.ties, below.data()});
  }
  auto first_slot = machine.template scratch<std::int64_t>(words);
  machine.exclusive_sum(words, count_bits{below.data()}, first_slot.data());

  auto counts = machine.template scratch<selection_counts>(1);
  machine.call_each(1, total_counts{below.data(), has_ties ? ties.data() : nullptr, first_slot.data(), tie_rank.data(),
                                    not_finite.data(), words - 1, counts.data()});
  selection_counts found{};
  machine.download(counts.data(), &found, sizeof(found));
  out.count = found.selected;
  out.ties = has_ties ? std::min(found.ties, limit.ties) : 0;
  out.not_finite = static_cast<std::int64_t>(found.not_finite);
  out.positions = machine.template scratch<std::int64_t>(out.count);
  if (out.count > 0) machine.call_each(words, list_entries{below.data(), first_slot.data(), out.positions.data()});
  return out;
}

}  // namespace sara::cuda::detail
