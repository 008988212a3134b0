// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <span>

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
///     regularizer.at(step, matrices)         // which of so many matrices have their turn in this step, counted from 0
///     regularizer.add(backend, matrices)     // a std::span<sparse_matrix<P, R> const>
///
/// `add` gets the compact values of the matrices whose turn it is, and adds to the compact gradient and the loss of
/// each, all in the backend's memory; it must not wait for the backend.
template <class G, class Backend>
concept LowRankRegularizer = TensorBackend<Backend> && std::copyable<G> &&
    requires(G const g, Backend const backend, extents const& shape, std::int64_t step,
             std::span<sparse_matrix<all_positions, float> const> matrices) {
  { g.applies_to(shape) } -> std::convertible_to<bool>;
  { g.at(step, step) } -> std::same_as<matrix_run>;
  g.add(backend, matrices);
};

}  // namespace sara
