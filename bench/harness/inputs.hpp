// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/host.hpp>
#include <sara/store/row_index.hpp>

#include <cstdint>
#include <vector>

#include "numbers.hpp"

namespace bench {

/// The store that a fine_tuner takes if nothing else is said.
using default_store = sara::row_index<sara::host>;

[[nodiscard]] inline default_store random_store(sara::host const& backend, sara::matrix_shape shape, double density) {
  auto const positions = random_positions("positions", shape.size(), density);
  return {backend, shape, positions.data(), static_cast<std::int64_t>(positions.size())};
}

/// Positions as a peer holds them.
[[nodiscard]] inline std::vector<std::int32_t> as_index(sara::host const& backend, default_store const& store) {
  auto const positions = sara::positions_of(backend, store);
  return {positions.begin(), positions.end()};
}

}  // namespace bench
