// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <sara/backend/positions.hpp>

#include "../support/stores.hpp"

TEST_CASE("all positions of a column") {
  static_assert(sara::Positions<sara::all_positions> && !sara::Positions<int>);
  sara::all_positions const all{5};
  CHECK(all.count() == 5);
  CHECK(all.shape() == sara::matrix_shape{5, 1});
  CHECK(all.position(3) == 3);
  CHECK(all.lower_bound(0) == 0);
  CHECK(all.lower_bound(4) == 4);
  CHECK(all.lower_bound(9) == 5);
  CHECK(sara::test::positions_of(all) == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  std::vector<std::int64_t> some;
  all.for_each(2, 4, [&](std::int64_t slot, std::int64_t p) {
    CHECK(slot == p);
    some.push_back(p);
  });
  CHECK(some == std::vector<std::int64_t>{2, 3});
  CHECK(sara::test::positions_of(sara::all_positions{0}).empty());
}
