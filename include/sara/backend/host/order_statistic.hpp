// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include <sara/backend/counter_random.hpp>
#include <sara/backend/host/score_mask.hpp>
#include <sara/backend/order.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// Keys between which a cut is expected, both included.
struct key_bracket {
  std::uint64_t lowest = 0;
  std::uint64_t highest = never_key - 1;
};

template <Score S>
[[nodiscard]] std::int64_t entries_in_all(std::span<scored_tensor<S> const> scored) {
  std::int64_t n = 0;
  for (auto const& s : scored) n += s.tensor.size();
  return n;
}

/// A bracket of the cut for `rank`, from a sample of 65,536 keys: four standard deviations to each side of the rank's
/// place in it, which contain the cut in all but one of 16,000 cases and less than 2 % of spread-out keys. Of few
/// entries it is everything.
template <Score S>
[[nodiscard]] key_bracket sampled_bracket(thread_pool& pool, std::span<scored_tensor<S> const> scored,
                                          std::int64_t rank) {
  constexpr std::int64_t size = 1 << 16;
  constexpr std::int64_t tasks = 64;
  auto const in_all = entries_in_all(scored);
  if (in_all <= 4 * size) return {};
  std::vector<std::uint64_t> keys(size);
  pool.parallel_for(tasks, [&](std::int64_t task) {
    for (auto i = task * (size / tasks); i < (task + 1) * (size / tasks); ++i) {
      auto entry =
          static_cast<std::int64_t>(counter_bits(0, stream_of("order_statistic"), static_cast<std::uint64_t>(i)) %
                                    static_cast<std::uint64_t>(in_all));
      auto const* s = scored.data();
      for (; entry >= s->tensor.size(); ++s) entry -= s->tensor.size();
      keys[static_cast<std::size_t>(i)] = visit(s->tensor.type(), [&]<class T>() {
        return entry_key(s->score, widen(s->tensor.template as<T>()[entry]), entry);
      });
    }
  });
  auto const fraction = std::min(1.0, static_cast<double>(rank) / static_cast<double>(in_all));
  auto const place = fraction * size;
  auto const margin = 4 * std::sqrt(place * (1 - fraction)) + 4;
  key_bracket out;
  auto const first = static_cast<std::int64_t>(place - margin);
  auto const last = static_cast<std::int64_t>(place + margin);
  if (last < size) {
    std::nth_element(keys.begin(), keys.begin() + last, keys.end());
    out.highest = std::min(out.highest, keys[static_cast<std::size_t>(last)]);
  }
  if (first >= 0) {
    std::nth_element(keys.begin(), keys.begin() + first, keys.begin() + std::min(last, size));
    out.lowest = std::min(out.highest, keys[static_cast<std::size_t>(first)]);
  }
  return out;
}

/// The cut for `rank` where it lies in the bracket, and the keys strictly inside are few.
///
/// Complexity: one read, and nth_element of the keys inside. Extra memory: 16 bytes for at most one key in sixteen of
/// a million entries and more, and 56 bytes a range.
template <Score S>
[[nodiscard]] std::optional<key_cut> cut_within(thread_pool& pool, std::span<scored_tensor<S> const> scored,
                                                std::int64_t rank, key_bracket const& bracket) {
  struct range {
    scored_tensor<S> const* from;
    std::int64_t first;
    std::int64_t below = 0, at_lowest = 0, at_highest = 0;
    std::vector<std::uint64_t> inside = {};
    bool overflows = false;
  };
  std::vector<range> ranges;
  for (auto const& s : scored)
    for (std::int64_t first = 0; first < s.tensor.size(); first += selection_range) ranges.push_back({&s, first});
  // of each range a sixteenth, or everything if that is little
  auto const most = std::max<std::int64_t>(selection_range / 16,
                                           (std::int64_t{1} << 20) / std::max<std::int64_t>(1, std::ssize(ranges)));

  pool.parallel_for(std::ssize(ranges), [&](std::int64_t number) {
    auto& r = ranges[static_cast<std::size_t>(number)];
    visit(r.from->tensor.type(), [&]<class T>() {
      auto const weights = r.from->tensor.template as<T>();
      auto const end = std::min(weights.count, r.first + selection_range);
      entry_block<T> block;
      std::array<std::int64_t, selection_block + word_entries> listed;
      for (auto first = r.first; first < end && !r.overflows; first += selection_block) {
        block.read(weights, first);
        auto const below = block.below(r.from->score, bracket.lowest);
        auto within = block.below(r.from->score, bracket.highest + 1);
        for (std::size_t i = 0; i < within.size(); ++i) within[i] &= ~below[i];
        r.below += count_of(below);
        if (bracket.lowest == bracket.highest) {
          r.at_lowest += count_of(within);
          continue;
        }
        auto const* const last = list_set(within, 0, listed.data());
        for (auto const* i = listed.data(); i < last; ++i) {
          auto const key = order_key(r.from->score(block[*i], first + *i));
          if (key == bracket.lowest)
            ++r.at_lowest;
          else if (key == bracket.highest)
            ++r.at_highest;
          else
            r.inside.push_back(key);
        }
        r.overflows = std::ssize(r.inside) > most;
      }
    });
  });

  std::int64_t below = 0, at_lowest = 0, inside = 0, at_highest = 0;
  for (auto const& r : ranges) {
    if (r.overflows) return {};
    below += r.below;
    at_lowest += r.at_lowest;
    inside += std::ssize(r.inside);
    at_highest += r.at_highest;
  }
  // with everything in the bracket, a rank beyond the finite entries is that of their last
  bool const is_all = bracket.lowest == 0 && bracket.highest == never_key - 1;
  auto left = (is_all ? std::min(rank, at_lowest + inside + at_highest) : rank) - below;
  if (is_all && left == 0) return key_cut{};
  if (left <= 0 || left > at_lowest + inside + at_highest) return {};
  if (left <= at_lowest) return key_cut{bracket.lowest, left};
  left -= at_lowest;
  if (left > inside) return key_cut{bracket.highest, left - inside};
  std::vector<std::uint64_t> keys;
  keys.reserve(static_cast<std::size_t>(inside));
  for (auto const& r : ranges) keys.insert(keys.end(), r.inside.begin(), r.inside.end());
  auto const nth = keys.begin() + (left - 1);
  std::nth_element(keys.begin(), nth, keys.end());
  return key_cut{*nth, left - std::count_if(keys.begin(), nth, [&](std::uint64_t key) { return key < *nth; })};
}

/// Calls f(key, index) for the entries of [first, last) in order.
template <class T, Score S, class F>
void for_each_key(entries<T const> const& weights, S const& score, std::int64_t first, std::int64_t last, F&& f) {
  for (std::int64_t i = first; i < last; ++i) f(entry_key(score, widen(weights[i]), i), i);
}

/// As order_statistic, whatever the scores: radix selection on 64-bit keys, 16 bits a pass; once the digit's bin
/// holds few keys they are collected and nth_element finishes. Two reads of the weights for spread-out scores, four in
/// the worst case (all scores equal). Extra memory: at most 8.5 MiB, and 8 bytes for at most one key in sixteen.
template <Score S>
[[nodiscard]] key_cut radix_order_statistic(thread_pool& pool, std::span<scored_tensor<S> const> scored,
                                            std::int64_t rank) {
  if (rank <= 0) return {};
  constexpr int digit = 16;
  constexpr std::size_t bins = std::size_t{1} << digit;
  constexpr std::int64_t tasks = 16;  // fixed; a task takes every sixteenth range
  auto const in_all = entries_in_all(scored);

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
    if (total[bin] > in_all / 16) continue;

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

/// The cut that takes exactly `rank` entries over all tensors, or all finite ones if these are fewer.
///
/// A sample brackets it, one pass counts what is below and collects what is inside; if it lies elsewhere, or too much
/// is inside, radix selection finds it.
/// Complexity: one read of the weights and 65,536 entries, as a rule. The sample is the same every time.
template <Score S>
[[nodiscard]] key_cut order_statistic(thread_pool& pool, std::span<scored_tensor<S> const> scored, std::int64_t rank) {
  if (rank <= 0) return {};
  if (auto const cut = cut_within(pool, scored, rank, sampled_bracket(pool, scored, rank))) return *cut;
  return radix_order_statistic(pool, scored, rank);
}

}  // namespace sara::detail
