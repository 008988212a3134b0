// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <variant>

#include <sara/backend/order.hpp>
#include <sara/tensor/traits.hpp>

namespace sara {

/// Entries whose score is strictly below a value.
struct threshold_cut {
  double value = 0;
};

/// Whether a count or fraction is of each tensor, or of all together.
enum class scope : std::uint8_t { model, tensor };

/// Exactly so many entries of lowest score; equal scores go in the order of the tensors, then of positions.
/// One of the two is given.
struct count_cut {
  std::optional<double> fraction = {};     ///< of all entries, NaN and infinite ones included; rounded to nearest
  std::optional<std::int64_t> count = {};  ///< at most the number of entries
  scope over = scope::model;
  friend bool operator==(count_cut const&, count_cut const&) = default;
};

/// Where selection ends.
using cut = std::variant<threshold_cut, count_cut>;

/// Which entries learn: a score for each entry, the lower the sooner, and a cut.
///
///     selector.score(named)   // a Score for this tensor, see there
///     selector.cut(named)     // the cut for this tensor; a count over the model must be the same for all
///
/// `static constexpr bool by_magnitude = true` says that the score is |w|: reselection then knows its threshold.
template <class S>
concept ThresholdSelector = std::copy_constructible<S> && requires(S const s, const_named_tensor const& w) {
  { s.score(w) } -> Score;
  { s.cut(w) } -> std::convertible_to<cut>;
};

/// |w|. SaRA, eq. 1.
struct magnitude {
  template <Real R>
  [[nodiscard]] SARA_HOST_DEVICE R operator()(R w, std::int64_t) const {
    return std::abs(w);
  }
};

/// -|w|: the largest first.
struct negative_magnitude {
  template <Real R>
  [[nodiscard]] SARA_HOST_DEVICE R operator()(R w, std::int64_t) const {
    return -std::abs(w);
  }
};

}  // namespace sara
