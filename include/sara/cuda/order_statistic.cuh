// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include <sara/backend/first_at_least.hpp>
#include <sara/backend/order.hpp>
#include <sara/cuda/kernels.cuh>
#include <sara/cuda/lanes.cuh>
#include <sara/tensor/view.hpp>

namespace sara::cuda::detail {

/// Keys that agree with `prefix` above the lowest `free` bits.
struct key_prefix {
  std::uint64_t prefix = 0;
  int free = 64;
  [[nodiscard]] SARA_HOST_DEVICE bool matches(std::uint64_t key) const {
    return key != never_key && (free == 64 || (key ^ prefix) >> free == 0);
  }
};

/// The digit of an entry's key below the prefix; most_bins for a key that does not match it.
template <class T, class S>
struct digit_of_entry {
  entries<T const> weights;
  S score;
  key_prefix known;
  int shift;
  [[nodiscard]] SARA_HOST_DEVICE std::uint32_t operator()(std::int64_t i) const {
    auto const key = entry_key(score, widen(weights[i]), i);
    if (!known.matches(key)) return most_bins;
    return static_cast<std::uint32_t>(key >> shift) & (most_bins - 1u);
  }
};

/// Appends the keys that match a prefix, in any order.
template <class T, class S>
struct collect_keys {
  entries<T const> weights;
  S score;
  key_prefix known;
  std::uint64_t* found;
  std::uint64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const key = entry_key(score, widen(weights[i]), i);
    if (known.matches(key)) to[add_atomically(found, 1)] = key;
  }
};

/// The cut that takes `wanted` of sorted keys.
struct cut_of_sorted {
  std::uint64_t const* keys;
  std::int64_t wanted;
  key_cut* to;
  SARA_HOST_DEVICE void operator()(std::int64_t) const {
    auto const bound = keys[wanted - 1];
    auto const below = sara::detail::first_at_least(wanted, bound, [this](std::int64_t i) { return keys[i]; });
    *to = {bound, wanted - below};
  }
};

/// The cut that takes exactly `rank` entries over all tensors, or all finite ones if these are fewer.
///
/// Radix selection on 64-bit keys, 12 bits a pass; once the digit's bin holds at most a million keys, these are
/// collected and sorted. Three reads of spread-out float32 weights, six where all scores are equal.
/// Extra memory: 32 KiB, and 16 MiB for the sort. Waits once a pass.
template <class Executor, Score S>
[[nodiscard]] key_cut order_statistic(Executor const& machine, std::span<scored_tensor<S> const> scored,
                                      std::int64_t rank) {
  constexpr int digit = std::countr_zero(static_cast<unsigned>(most_bins));
  constexpr std::int64_t few = std::int64_t{1} << 20;
  auto const each_tensor = [&](auto&& f) {
    for (auto const& s : scored)
      if (s.tensor.size() > 0) visit(s.tensor.type(), [&]<class T>() { f(s.tensor.template as<T>(), s.score); });
  };
  if (rank <= 0) return {};
  auto bins = machine.template scratch<std::uint64_t>(most_bins);
  std::array<std::uint64_t, most_bins> counts;
  key_prefix known;
  auto wanted = rank;  // among the keys that match
  while (known.free > 0) {
    int const shift = std::max(0, known.free - digit);
    machine.set_zero(bins.data(), most_bins * sizeof(std::uint64_t));
    each_tensor([&]<class T>(entries<T const> const& weights, S const& score) {
      machine.count(weights.count, digit_of_entry<T, S>{weights, score, known, shift}, bins.data());
    });
    machine.download(bins.data(), counts.data(), sizeof(counts));
    std::int64_t here = 0;
    for (auto const count : counts) here += static_cast<std::int64_t>(count);
    wanted = std::min(wanted, here);
    if (wanted == 0) return {};
    std::size_t bin = 0;
    while (static_cast<std::int64_t>(counts[bin]) < wanted) wanted -= static_cast<std::int64_t>(counts[bin++]);
    // the last digit may overlap bits that are known already: these agree
    known = {known.prefix | std::uint64_t{bin} << shift, shift};
    auto const left = static_cast<std::int64_t>(counts[bin]);
    if (shift == 0 || left > few) continue;

    auto keys = machine.template scratch<std::uint64_t>(left);
    auto found = machine.template scratch<std::uint64_t>(1);
    machine.set_zero(found.data(), sizeof(std::uint64_t));
    each_tensor([&]<class T>(entries<T const> const& weights, S const& score) {
      machine.call_each(weights.count, collect_keys<T, S>{weights, score, known, found.data(), keys.data()});
    });
    machine.sort(keys, left);
    auto cut = machine.template scratch<key_cut>(1);
    machine.call_each(1, cut_of_sorted{keys.data(), wanted, cut.data()});
    key_cut out;
    machine.download(cut.data(), &out, sizeof(out));
    return out;
  }
  return {known.prefix, wanted};
}

}  // namespace sara::cuda::detail
