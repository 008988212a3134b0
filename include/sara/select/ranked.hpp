// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include <sara/backend/counter_random.hpp>
#include <sara/select/concept.hpp>

namespace sara {

/// The entries of smallest |w|: a fraction or an exact count, over the model or of each tensor.
///
///     sara::smallest{.fraction = 0.05}
///     sara::smallest{.count = 5'000'000}
struct smallest {
  std::optional<double> fraction = {};
  std::optional<std::int64_t> count = {};
  scope over = scope::model;

  static constexpr bool by_magnitude = true;
  [[nodiscard]] magnitude score(const_named_tensor const&) const { return {}; }
  [[nodiscard]] count_cut cut(const_named_tensor const&) const { return {fraction, count, over}; }
};

/// The entries of largest |w|, an ablation of the paper (Table 2).
struct largest {
  std::optional<double> fraction = {};
  std::optional<std::int64_t> count = {};
  scope over = scope::model;

  [[nodiscard]] negative_magnitude score(const_named_tensor const&) const { return {}; }
  [[nodiscard]] count_cut cut(const_named_tensor const&) const { return {fraction, count, over}; }
};

/// Entries at random, an ablation of the paper (Table 2). A function of seed, tensor name and position alone.
struct random {
  std::optional<double> fraction = {};
  std::optional<std::int64_t> count = {};
  scope over = scope::model;
  std::uint64_t seed = 0;

  struct score_type {
    std::uint64_t seed;
    std::uint64_t stream;
    template <Real R>
    [[nodiscard]] SARA_HOST_DEVICE std::uint64_t operator()(R, std::int64_t position) const {
      return counter_bits(seed, stream, static_cast<std::uint64_t>(position)) >> 1;
    }
  };
  [[nodiscard]] score_type score(const_named_tensor const& w) const { return {seed, stream_of(w.name)}; }
  [[nodiscard]] count_cut cut(const_named_tensor const&) const { return {fraction, count, over}; }
};

}  // namespace sara
