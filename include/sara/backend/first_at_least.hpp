// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/host_device.hpp>

namespace sara::detail {

/// The first i in [0, count) with at(i) ≥ wanted, or count, where at ascends. O(log count).
template <class Value, class At>
[[nodiscard]] SARA_HOST_DEVICE std::int64_t first_at_least(std::int64_t count, Value wanted, At&& at) {
  std::int64_t first = 0;
  while (count > 0) {
    auto const half = count / 2;
    if (at(first + half) < wanted) {
      first += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return first;
}

}  // namespace sara::detail
