// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/backend/host/strips.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::detail::steps;
using sara::test::uniform;

}  // namespace

TEST_CASE_TEMPLATE("products of strips are added at the slots, in chunks of any length", R, float, double) {
  constexpr auto vector = sara::detail::vector_length<R>;
  constexpr auto pitch = 5 * sara::detail::step_length<R>;
  constexpr std::int64_t rows = 20, cols = 45;
  auto const dy = uniform<R>("dy", rows * pitch);
  auto const x = uniform<R>("x", cols * pitch + vector);
  // Row r has r + 1 entries: there are chunks of every length.
  std::vector<std::int64_t> positions;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c <= r; ++c) positions.push_back(r * cols + c);
  sara::host const backend{1};
  auto const store = sara::test::make_store<sara::row_index<sara::host>>(backend, {rows, cols}, positions);
  auto const plan = backend.plan_sampling(store.ref());
  REQUIRE(plan.parts().size() == 1);
  std::vector<std::uint32_t> column;
  for (std::int64_t c = 0; c < cols; ++c) column.push_back(static_cast<std::uint32_t>(c * pitch));

  // Steps of every length, some of them together, and X somewhere else than dY; rows 10 … 19 are a second group.
  std::vector<steps> reduction;
  for (auto vectors = sara::detail::step_vectors; vectors > 0; vectors /= 2)
    reduction.push_back({vectors * vector, 2 * vector, vectors, vectors == sara::detail::step_vectors ? 3 : 1});
  for (std::int64_t const group_pitch : {std::int64_t{0}, vector}) {
    sara::detail::strips<R> const s{dy.data(), pitch, 0, x.data(), column.data(), 10, group_pitch};
    std::vector<R> out(positions.size(), R{5});
    sara::detail::add_products<R>(plan, plan.pieces(plan.parts()[0]), s, reduction, plan.columns(store.ref()),
                                  out.data());
    std::vector<double> expected;
    for (auto const p : positions) {
      double sum = 5;
      for (auto const& part : reduction)
        for (std::int64_t i = 0; i < part.count * part.vectors * vector; ++i)
          sum += static_cast<double>(dy[static_cast<std::size_t>(p / cols * pitch + part.dy + i)]) *
                 static_cast<double>(
                     x[static_cast<std::size_t>(p % cols * pitch + p / cols / 10 * group_pitch + part.x + i)]);
      expected.push_back(sum);
    }
    auto const allowed = std::same_as<R, float> ? 1e-5 : 1e-13;
    CHECK(sara::test::difference(out, expected, {allowed, allowed}) == "");
  }
}

TEST_CASE_TEMPLATE("a length is cut into steps", R, float, double) {
  constexpr auto vector = sara::detail::vector_length<R>;
  constexpr auto length = sara::detail::step_length<R>;
  CHECK(sara::detail::padded_length<R>(2 * length + vector + 1) == 2 * length + 2 * vector);
  CHECK(sara::detail::padded_length<R>(2 * length) == 2 * length);
  CHECK(sara::detail::padded_length<R>(1) == vector);
  CHECK(sara::detail::padded_length<R>(length / 2 + 1) == length);
  auto const check = [](steps const& found, std::int64_t dy, std::int64_t x, std::int64_t vectors, std::int64_t count) {
    CHECK(found.dy == dy);
    CHECK(found.x == x);
    CHECK(found.vectors == vectors);
    CHECK(found.count == count);
  };
  auto const found = sara::detail::cut_steps<R>(5 * length + vector + 1, 2 * length, 1000, 2000);
  REQUIRE(found.size() == 4);
  check(found[0], 0, 0, sara::detail::step_vectors, 2);
  check(found[1], 1000, 2000, sara::detail::step_vectors, 2);
  check(found[2], 2000, 4000, sara::detail::step_vectors, 1);
  check(found[3], 2000 + length, 4000 + length, 2, 1);
}
