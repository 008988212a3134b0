// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/error.hpp>
#include <sara/select/concept.hpp>

namespace sara {

/// What was selected in one tensor.
template <TensorBackend Backend>
struct tensor_selection {
  typename Backend::template buffer<std::int64_t> positions;  ///< [count], ascending, in the backend's memory
  std::int64_t count = 0;
  std::int64_t not_finite = 0;      ///< NaN and infinite weights; never selected
  std::optional<double> threshold;  ///< the θ with |w| < θ for all of them, where selection was by magnitude
};

namespace detail {

[[nodiscard]] inline std::int64_t entries_to_take(count_cut const& c, std::int64_t size) {
  require<value_error>(c.fraction.has_value() != c.count.has_value(),
                       "selection: expected either a fraction or a count, got ", c.fraction ? "both" : "neither");
  if (c.fraction) {
    require<value_error>(*c.fraction >= 0 && *c.fraction <= 1, "selection: expected a fraction from 0 to 1, got ",
                         *c.fraction);
    return std::llround(*c.fraction * static_cast<double>(size));
  }
  require<value_error>(*c.count >= 0 && *c.count <= size, "selection: expected a count from 0 to ", size,
                       " (the entries there are), got ", *c.count);
  return *c.count;
}

}  // namespace detail

/// Selects entries of all tensors: weights → positions.  (SaRA, eq. 1 and 2)
///
/// @param weights   tensors in the backend's memory; those that may learn, see names
/// @return one selection a tensor, in order
/// @throws memory_error, value_error (a cut outside its range), and what the selector throws
/// Complexity: one pass over the weights for a threshold; one more, as a rule, for a fraction or count.
/// Extra memory: 8 bytes a selected entry. Synchronises. Deterministic.
/// Example: tests/select/below.cpp
template <TensorBackend Backend, ThresholdSelector Selector>
[[nodiscard]] std::vector<tensor_selection<Backend>> select(Backend const& backend,
                                                            std::span<const_named_tensor const> weights,
                                                            Selector const& selector) {
  using score_type = decltype(selector.score(weights[0]));
  std::vector<scored_tensor<score_type>> scored;
  std::vector<cut> cuts;
  for (auto const& w : weights) {
    require_memory(backend, w.name.c_str(), w.tensor);
    scored.push_back({w.tensor, selector.score(w)});
    cuts.push_back(selector.cut(w));
  }

  std::vector<std::size_t> pooled;  // tensors that share one count over the model
  std::vector<key_cut> bounds(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (auto const* threshold = std::get_if<threshold_cut>(&cuts[i])) {
      detail::require<value_error>(!std::isnan(threshold->value), "selection: expected a threshold for '",
                                   weights[i].name, "', got NaN");
      bounds[i] = cut_below(scored[i], threshold->value);
    } else if (auto const& count = std::get<count_cut>(cuts[i]); count.over == scope::model) {
      detail::require<value_error>(pooled.empty() || count == std::get<count_cut>(cuts[pooled[0]]),
                                   "selection: expected "
                                   "one count over the model, got another for '",
                                   weights[i].name, "'");
      pooled.push_back(i);
    } else {
      std::span const one{&scored[i], 1};
      bounds[i] = backend.order_statistic(std::span<scored_tensor<score_type> const>{one},
                                          detail::entries_to_take(count, weights[i].tensor.size()));
    }
  }
  if (!pooled.empty()) {
    std::vector<scored_tensor<score_type>> pool;
    std::int64_t size = 0;
    for (auto const i : pooled) {
      pool.push_back(scored[i]);
      size += weights[i].tensor.size();
    }
    auto const take = detail::entries_to_take(std::get<count_cut>(cuts[pooled[0]]), size);
    auto const bound = backend.order_statistic(std::span<scored_tensor<score_type> const>{pool}, take);
    for (auto const i : pooled) bounds[i] = bound;
  }

  std::vector<tensor_selection<Backend>> out;
  std::int64_t pooled_ties = 0;  // taken by the tensors before
  for (std::size_t i = 0; i < weights.size(); ++i) {
    bool const is_pooled = std::find(pooled.begin(), pooled.end(), i) != pooled.end();
    auto found = backend.compact(scored[i], {bounds[i].bound, bounds[i].ties - (is_pooled ? pooled_ties : 0)});
    if (is_pooled) pooled_ties += found.ties;
    tensor_selection<Backend> selection{std::move(found.positions), found.count, found.not_finite, {}};
    if constexpr (requires { requires Selector::by_magnitude; }) {
      // a count took entries up to its bound: the next number above that is strictly above them all
      if (auto const* threshold = std::get_if<threshold_cut>(&cuts[i]))
        selection.threshold = threshold->value;
      else
        selection.threshold = bounds[i].bound == 0 ? 0.0  // nothing was taken
                                                   : std::nextafter(score_of_key(bounds[i].bound),
                                                                    std::numeric_limits<double>::infinity());
    }
    out.push_back(std::move(selection));
  }
  return out;
}

}  // namespace sara
