// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <sara/backend/first_at_least.hpp>

TEST_CASE("the first element that is not below a value, as std::lower_bound finds it") {
  std::vector<std::vector<std::uint64_t>> const lists{
      {}, {5}, {1, 1, 1}, {0, 2, 2, 3, 7, 7, 9}, {0, 1, ~std::uint64_t{0} - 1, ~std::uint64_t{0}}};
  for (auto const& list : lists) {
    CAPTURE(list.size());
    std::vector<std::uint64_t> const wanted{0, 1, 2, 3, 4, 6, 7, 8, 10, ~std::uint64_t{0}};
    for (auto const value : wanted) {
      CAPTURE(value);
      auto const found = sara::detail::first_at_least(
          std::ssize(list), value, [&](std::int64_t i) { return list[static_cast<std::size_t>(i)]; });
      CHECK(found == std::lower_bound(list.begin(), list.end(), value) - list.begin());
    }
  }
}
