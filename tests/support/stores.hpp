// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/store/bitmask.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/store/row_index.hpp>

/// All stores on the host, for TEST_CASE_TEMPLATE.
#define SARA_HOST_STORES sara::flat_index<sara::host>, sara::row_index<sara::host>, sara::bitmask<sara::host>

namespace sara::test {

template <class Store>
[[nodiscard]] Store make_store(host const& backend, matrix_shape shape, std::vector<std::int64_t> const& positions) {
  return Store(backend, shape, positions.data(), static_cast<std::int64_t>(positions.size()));
}

/// Thread counts that must give the same bits.
inline constexpr int thread_counts[] = {1, 2, 3, 7};

/// 0 … size - 1.
[[nodiscard]] inline std::vector<std::int64_t> every_position(std::int64_t size) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(size));
  std::iota(out.begin(), out.end(), std::int64_t{0});
  return out;
}

/// Where a mask is true.
[[nodiscard]] inline std::vector<std::int64_t> positions_in(std::vector<bool> const& mask) {
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i]) out.push_back(static_cast<std::int64_t>(i));
  return out;
}

/// Positions of a store, by iteration.
template <Positions P>
[[nodiscard]] std::vector<std::int64_t> positions_of(P const& ref) {
  std::vector<std::int64_t> out;
  ref.for_each(0, ref.count(), [&](std::int64_t, std::int64_t p) { out.push_back(p); });
  return out;
}

}  // namespace sara::test
