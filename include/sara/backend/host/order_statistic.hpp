// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include <sara/backend/counter_random.hpp>
#include <sara/backend/host/buffer.hpp>
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

/// A bracket of the cut for `rank`, and how many keys it is expected to contain.
struct sampled_keys {
  key_bracket bracket;
  std::int64_t expected;
};

/// From a sample of 32,768 keys, one of each of as many equal parts of the entries: four standard deviations to each
/// side of the rank's place in it, which contain the cut in all but one of 16,000 cases and less than 3 % of spread-out
/// keys. Of few entries it is everything.
template <Score S>
[[nodiscard]] sampled_keys sampled_bracket(thread_pool& pool, std::span<scored_tensor<S> const> scored,
                                           std::int64_t rank) {
  constexpr int log_size = 15;
  constexpr std::int64_t size = 1 << log_size;
  constexpr std::int64_t tasks = 64;
  constexpr std::size_t of_task = size / tasks;
  auto const in_all = entries_in_all(scored);
  if (in_all <= 4 * size) return {{}, in_all};
  auto const keys = std::make_unique_for_overwrite<std::uint64_t[]>(size);
  auto const part = [&](std::int64_t i) { return (in_all >> log_size) * i + ((in_all & (size - 1)) * i >> log_size); };
  pool.parallel_for(tasks, [&](std::int64_t task) {
    std::array<std::int64_t, of_task> entries{};
    auto const first = task * std::ssize(entries);
    for (std::int64_t i = 0; i < std::ssize(entries); ++i) {
      auto const start = part(first + i);
      auto const length = static_cast<std::uint64_t>(part(first + i + 1) - start);
      auto const bits = counter_bits(0, stream_of("order_statistic"), static_cast<std::uint64_t>(first + i));
      entries[static_cast<std::size_t>(i)] = start + static_cast<std::int64_t>(bits % length);
    }
    std::size_t i = 0;
    std::int64_t before = 0;  // entries of the tensors before s
    for (auto const& s : scored) {
      auto const end = before + s.tensor.size();
      visit(s.tensor.type(), [&]<class T>() {
        auto const weights = s.tensor.template as<T>();
        for (; i < entries.size() && entries[i] < end; ++i) {
          auto const at = entries[i] - before;
          keys[static_cast<std::size_t>(first) + i] = entry_key(s.score, widen(weights[at]), at);
        }
      });
      before = end;
    }
  });
  auto const fraction = std::min(1.0, static_cast<double>(rank) / static_cast<double>(in_all));
  auto const place = fraction * size;
  auto const margin = 4 * std::sqrt(place * (1 - fraction)) + 4;
  key_bracket out;
  auto const first = static_cast<std::int64_t>(place - margin);
  auto const last = static_cast<std::int64_t>(place + margin);
  if (last < size) {
    std::nth_element(keys.get(), keys.get() + last, keys.get() + size);
    out.highest = std::min(out.highest, keys[static_cast<std::size_t>(last)]);
  }
  if (first >= 0) {
    std::nth_element(keys.get(), keys.get() + first, keys.get() + std::min(last, size));
    out.lowest = std::min(out.highest, keys[static_cast<std::size_t>(first)]);
  }
  return {out, static_cast<std::int64_t>(2 * margin / size * static_cast<double>(in_all))};
}

/// The cut for `rank` among keys that lie in a bracket, spread out as a rule: they are counted in equal parts of the
/// bracket, and nth_element has to look at those of one part only. Reorders the keys.
[[nodiscard]] inline key_cut cut_among(std::span<std::uint64_t> keys, std::int64_t rank, key_bracket const& bracket) {
  constexpr int log_parts = 12;
  auto const shift = std::max(0, static_cast<int>(std::bit_width(bracket.highest - bracket.lowest)) - log_parts);
  auto const part_of = [&](std::uint64_t key) { return (key - bracket.lowest) >> shift; };
  std::vector<std::int64_t> counts(std::size_t{1} << log_parts);
  for (auto const key : keys) ++counts[part_of(key)];
  std::uint64_t part = 0;
  while (counts[part] < rank) rank -= counts[part++];
  auto const end = std::partition(keys.begin(), keys.end(), [&](auto key) { return part_of(key) == part; });
  auto const nth = keys.begin() + (rank - 1);
  std::nth_element(keys.begin(), nth, end);
  return {*nth, rank - std::count_if(keys.begin(), nth, [&](auto key) { return key < *nth; })};
}

/// The cut for `rank` where it lies in the bracket, and the keys strictly inside are not many more than expected.
///
/// Complexity: one read, and some passes over the keys inside. Extra memory: 12 bytes an expected key, and a MiB.
template <Score S>
[[nodiscard]] std::optional<key_cut> cut_within(thread_pool& pool, std::span<scored_tensor<S> const> scored,
                                                std::int64_t rank, sampled_keys const& sample) {
  auto const& bracket = sample.bracket;
  struct range {
    scored_tensor<S> const* from;
    std::int64_t first;
    std::int64_t below = 0, at_lowest = 0, at_highest = 0;
  };
  std::vector<range> ranges;
  for (auto const& s : scored)
    for (std::int64_t first = 0; first < s.tensor.size(); first += selection_range) ranges.push_back({&s, first});
  auto const room = sample.expected + sample.expected / 2 + (1 << 17);
  auto inside = host_buffer<std::uint64_t>::for_overwrite(room);
  std::atomic<std::int64_t> count_inside = 0;  // their order is the threads', but the one of a rank is not

  pool.parallel_for(std::ssize(ranges), [&](std::int64_t number) {
    if (count_inside.load(std::memory_order_relaxed) > room) return;
    auto& r = ranges[static_cast<std::size_t>(number)];
    visit(r.from->tensor.type(), [&]<class T>() {
      auto const weights = r.from->tensor.template as<T>();
      below_key<score_of<S, T>> const is_below{bracket.lowest}, is_below_or_within{bracket.highest + 1};
      entry_block<T> block;
      entry_list within;
      for (std::int64_t first = 0; first < std::min(selection_range, weights.count - r.first);
           first += selection_block) {
        block.read(weights, r.first + first);
        auto const below = block.below(r.from->score, is_below);
        auto const mask = without(block.below(r.from->score, is_below_or_within), below);
        r.below += count_of(below);
        if (bracket.lowest == bracket.highest)
          r.at_lowest += count_of(mask);
        else
          within.append(mask, first);
      }
      std::array<std::uint64_t, 1 << 10> keys;
      for (auto left = within.numbers(); !left.empty();) {
        auto const some = left.first(std::min(left.size(), keys.size()));
        left = left.subspan(some.size());
        std::int64_t count = 0;
        for (auto const i : some) {
          auto const position = r.first + i;
          auto const key = order_key(r.from->score(widen(weights[position]), position));
          keys[static_cast<std::size_t>(count)] = key;
          r.at_lowest += key == bracket.lowest;
          r.at_highest += key == bracket.highest;
          count += key != bracket.lowest && key != bracket.highest;
        }
        auto const at = count_inside.fetch_add(count, std::memory_order_relaxed);
        if (at + count > room) return;
        std::copy_n(keys.data(), count, inside.data() + at);
      }
    });
  });

  auto const count = count_inside.load();
  if (count > room) return {};
  std::int64_t below = 0, at_lowest = 0, at_highest = 0;
  for (auto const& r : ranges) {
    below += r.below;
    at_lowest += r.at_lowest;
    at_highest += r.at_highest;
  }
  // with everything in the bracket, a rank beyond the finite entries is that of their last
  bool const is_all = bracket.lowest == 0 && bracket.highest == never_key - 1;
  auto left = (is_all ? std::min(rank, at_lowest + count + at_highest) : rank) - below;
  if (is_all && left == 0) return key_cut{};
  if (left <= 0 || left > at_lowest + count + at_highest) return {};
  if (left <= at_lowest) return key_cut{bracket.lowest, left};
  left -= at_lowest;
  if (left > count) return key_cut{bracket.highest, left - count};
  return cut_among({inside.data(), static_cast<std::size_t>(count)}, left, bracket);
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
/// Complexity: one read of the weights and 32,768 entries, as a rule. The sample is the same every time.
template <Score S>
[[nodiscard]] key_cut order_statistic(thread_pool& pool, std::span<scored_tensor<S> const> scored, std::int64_t rank) {
  if (rank <= 0) return {};
  if (auto const cut = cut_within(pool, scored, rank, sampled_bracket(pool, scored, rank))) return *cut;
  return radix_order_statistic(pool, scored, rank);
}

}  // namespace sara::detail
