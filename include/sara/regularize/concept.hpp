// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// A run [first, first + count) among the matrices that a regularizer applies to.
struct matrix_run {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// What keeps the learned part low-rank: a loss on P ⊙ M and its gradient at M.
///
///     regularizer.applies_to(shape)          // whether to this weight, by its extents
///     regularizer.at(step, matrices)         // which of the matrices it applies to, in the step from 0
///     regularizer.add(backend, positions, values, gradient, loss)
///
/// `add` gets the compact values of one matrix and adds to its compact gradient, [count] each, and to *loss, all in
/// the backend's memory; it must not wait for the backend.
template <class G, class Backend>
concept LowRankRegularizer = TensorBackend<Backend> && std::copyable<G> &&
    requires(G const g, Backend const backend, extents const& shape, std::int64_t step, all_positions positions,
             float const* values, float* gradient, double* loss) {
  { g.applies_to(shape) } -> std::convertible_to<bool>;
  { g.at(step, step) } -> std::same_as<matrix_run>;
  g.add(backend, positions, values, gradient, loss);
};

}  // namespace sara
