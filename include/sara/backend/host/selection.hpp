// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <sara/backend/order.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/error.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Entries of one task of a selection pass; fixed, so that results do not depend on the threads.
inline constexpr std::int64_t selection_range = 1 << 16;

[[nodiscard]] constexpr std::int64_t ranges_of(std::int64_t count, std::int64_t range) {
  return (count + range - 1) / range;
}

/// Calls f(key, index) for the entries of [first, last) in order.
template <class T, Score S, class F>
void for_each_key(entries<T const> const& weights, S const& score, std::int64_t first, std::int64_t last, F&& f) {
  for (std::int64_t i = first; i < last; ++i) f(entry_key(score, widen(weights[i]), i), i);
}

/// Two passes over the weights: count per range, then write at the prefix sums.
/// Complexity: two reads of the tensor. Extra memory: 40 bytes per 65,536 entries.
template <Score S>
[[nodiscard]] compaction<std::vector<std::int64_t>> compact(thread_pool& pool, scored_tensor<S> const& scored,
                                                            key_cut limit) {
  return visit(scored.tensor.type(), [&]<class T>() {
    struct counts {
      std::int64_t below = 0, ties = 0, not_finite = 0;
    };
    auto const weights = scored.tensor.template as<T>();
    auto const last = [&](std::int64_t range) { return std::min(weights.count, (range + 1) * selection_range); };
    std::vector<counts> found(static_cast<std::size_t>(ranges_of(weights.count, selection_range)));
    pool.parallel_for(std::ssize(found), [&](std::int64_t range) {
      counts c;
      for (std::int64_t i = range * selection_range; i < last(range); ++i) {
        auto const w = widen(weights[i]);
        auto const key = entry_key(scored.score, w, i);
        c.below += key < limit.bound;
        c.ties += key == limit.bound && key != never_key;
        c.not_finite += !std::isfinite(w);
      }
      found[static_cast<std::size_t>(range)] = c;
    });

    compaction<std::vector<std::int64_t>> out;
    std::vector<std::int64_t> first_slot;
    std::vector<std::int64_t> ties_left;
    for (auto const& c : found) {
      first_slot.push_back(out.count);
      ties_left.push_back(limit.ties - out.ties);
      auto const ties = std::min(c.ties, limit.ties - out.ties);
      out.ties += ties;
      out.count += c.below + ties;
      out.not_finite += c.not_finite;
    }
    out.positions.resize(static_cast<std::size_t>(out.count));
    pool.parallel_for(std::ssize(found), [&](std::int64_t range) {
      auto* slot = out.positions.data() + first_slot[static_cast<std::size_t>(range)];
      auto ties = ties_left[static_cast<std::size_t>(range)];
      for_each_key(weights, scored.score, range * selection_range, last(range), [&](std::uint64_t key, std::int64_t i) {
        if (key < limit.bound || (key == limit.bound && key != never_key && ties-- > 0)) *slot++ = i;
      });
    });
    return out;
  });
}

/// The cut that takes exactly `rank` entries over all tensors, or all finite ones if these are fewer.
///
/// Radix selection on 64-bit keys, 16 bits a pass; once the digit's bin holds few keys they are collected and
/// nth_element finishes. Two reads of the weights for spread-out scores, four in the worst case (all scores equal).
/// Extra memory: at most 8.5 MiB, and 8 bytes for at most one key in sixteen.
template <Score S>
[[nodiscard]] key_cut order_statistic(thread_pool& pool, std::span<scored_tensor<S> const> scored, std::int64_t rank) {
  if (rank <= 0) return {};
  constexpr int digit = 16;
  constexpr std::size_t bins = std::size_t{1} << digit;
  constexpr std::int64_t tasks = 16;  // fixed; a task takes every sixteenth range
  std::int64_t entries_in_all = 0;
  for (auto const& s : scored) entries_in_all += s.tensor.size();

  // f(task, key) for every key that agrees with `prefix` in the bits above `shift + digit`
  auto const scan = [&](std::uint64_t prefix, int shift, auto&& f) {
    pool.parallel_for(tasks, [&](std::int64_t task) {
      for (auto const& s : scored)
        visit(s.tensor.type(), [&]<class T>() {
          auto const weights = s.tensor.template as<T>();
          for (auto first = task * selection_range; first < weights.count; first += tasks * selection_range)
            for_each_key(weights, s.score, first, std::min(weights.count, first + selection_range),
                         [&](std::uint64_t key, std::int64_t) {
                           bool const agrees = shift + digit == 64 || (key ^ prefix) >> (shift + digit) == 0;
                           if (key != never_key && agrees) f(static_cast<std::size_t>(task), key);
                         });
        });
    });
  };

  std::uint64_t prefix = 0;
  std::int64_t wanted = rank;  // among the keys that agree with prefix
  for (int shift = 64 - digit; shift >= 0; shift -= digit) {
    std::vector<std::vector<std::int64_t>> histograms(tasks);
    scan(prefix, shift, [&](std::size_t task, std::uint64_t key) {
      auto& histogram = histograms[task];
      if (histogram.empty()) histogram.resize(bins);
      ++histogram[static_cast<std::size_t>(key >> shift) & (bins - 1)];
    });
    std::vector<std::int64_t> total(bins);
    for (auto const& histogram : histograms)
      for (std::size_t bin = 0; bin < histogram.size(); ++bin) total[bin] += histogram[bin];
    auto const here = std::accumulate(total.begin(), total.end(), std::int64_t{0});
    wanted = std::min(wanted, here);
    if (wanted == 0) return {};
    std::size_t bin = 0;
    while (total[bin] < wanted) wanted -= total[bin++];
    prefix |= static_cast<std::uint64_t>(bin) << shift;
    if (shift == 0) break;
    if (total[bin] > entries_in_all / 16) continue;

    std::vector<std::vector<std::uint64_t>> collected(tasks);
    scan(prefix, shift - digit, [&](std::size_t task, std::uint64_t key) { collected[task].push_back(key); });
    std::vector<std::uint64_t> keys;
    for (auto const& part : collected) keys.insert(keys.end(), part.begin(), part.end());
    auto const nth = keys.begin() + (wanted - 1);
    std::nth_element(keys.begin(), nth, keys.end());
    auto const below = std::count_if(keys.begin(), nth, [&](std::uint64_t key) { return key < *nth; });
    return {*nth, wanted - below};
  }
  return {prefix, wanted};
}

}  // namespace sara::detail
