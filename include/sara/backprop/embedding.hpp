// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include <sara/backend/concept.hpp>
#include <sara/backprop/linear.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// gradient[j] += Σ_t [index_t = row_j] dY[t, col_j]: the gradient of an embedding table at its selected entries.
///
/// @param dy         gradient of the output, [..., width], any dtype
/// @param index      rows looked up, one for each row of dy, in host memory
/// @param positions  in the table, [rows, width]
/// @param gradient   [count]
/// @throws shape_error  unless extents fit, or where dy's leading dimensions are not equally spaced in memory
/// @throws value_error  for an index outside the table
/// @throws memory_error
/// Complexity: O(tokens · log tokens + selected entries · tokens of their row). Extra memory: O(tokens). Waits where
/// the backend reads the index from host memory. Example: tests/backprop/embedding.cpp
template <TensorBackend Backend, Positions P, Real R>
void accumulate_embedding(Backend const& backend, const_tensor_view const& dy, std::span<std::int64_t const> index,
                          P positions, R* gradient) {
  auto const shape = positions.shape();
  require_memory(backend, "embedding dY", dy);
  auto const tokens = static_cast<std::int64_t>(index.size());
  detail::require<shape_error>(
      dy.rank() >= 1 && detail::trailing(dy.shape()) == shape.cols && detail::leading(dy.shape()) == tokens,
      "embedding: expected dY [", tokens, ", ", shape.cols, "], got ", dy.shape());
  for (auto const row : index)
    detail::require<value_error>(row >= 0 && row < shape.rows, "embedding: expected indices from 0 to ", shape.rows - 1,
                                 ", got ", row);
  backend.sampled_rows(dy, index, positions, gradient);
}

}  // namespace sara
