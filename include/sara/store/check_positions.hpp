// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <sara/backend/positions.hpp>
#include <sara/error.hpp>

namespace sara {

namespace detail {

/// @throws Error  unless positions are strictly ascending and within `size`
template <class Error>
void require_positions(std::string const& where, std::span<std::int64_t const> positions, std::int64_t size) {
  std::int64_t last = -1;
  for (auto const p : positions) {
    require<Error>(p > last && p < size, where, ": expected ascending positions from 0 and below ", size, ", got ", p,
                   " after ", last);
    last = p;
  }
}

}  // namespace detail

/// Whether a store of this shape may hold positions, which it takes unchecked: for those that no selection made.
/// @param positions  in host memory
/// @throws shape_error  unless they are strictly ascending and inside the matrix
/// Complexity: O(count).
inline void check_positions(std::span<std::int64_t const> positions, matrix_shape shape) {
  detail::require_positions<shape_error>("positions", positions, shape.size());
}

}  // namespace sara
