// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/backend/host/sampling_plan.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace {

using sara::host_sampling_plan;

/// What is wrong with a plan for these positions; empty if nothing.
template <class Store>
std::string fault_of(sara::matrix_shape shape, std::vector<std::int64_t> const& positions) {
  sara::host const backend{1};
  auto const store = sara::test::make_store<Store>(backend, shape, positions);
  host_sampling_plan const plan{store.ref()};
  auto const* const columns = plan.columns(store.ref());
  std::vector<int> seen(positions.size());
  for (std::int64_t t = 0; t < plan.tasks(); ++t)
    for (auto const& run : plan.task(t)) {
      if (run.length < 1 || run.length > host_sampling_plan::longest_chunk) return "a length out of range";
      for (auto i = run.first; i < run.first + run.count; ++i) {
        auto const chunk = plan.chunks()[static_cast<std::size_t>(i)];
        for (auto slot = chunk.slot(); slot < chunk.slot() + run.length; ++slot) {
          auto const at = static_cast<std::size_t>(slot);
          ++seen.at(at);
          if (chunk.row() * shape.cols + run.column + columns[at] != positions[at]) return "a wrong row or column";
        }
      }
    }
  return std::count(seen.begin(), seen.end(), 1) == std::ssize(seen) ? "" : "a slot not exactly once";
}

}  // namespace

TEST_CASE_TEMPLATE("every slot is in one chunk, with its row and column", Store, SARA_HOST_STORES) {
  for (double const density : {0.004, 0.05, 0.3, 1.0})
    CHECK(fault_of<Store>({50, 700}, sara::test::random_positions("m", 50 * 700, density)) == "");
  CHECK(fault_of<Store>({3, 200'000}, sara::test::random_positions("wide", 600'000, 0.01)) == "");
  CHECK(fault_of<Store>({1, 1}, {0}) == "");
  CHECK(fault_of<Store>({9, 5}, {}) == "");
  CHECK(fault_of<Store>({0, 5}, {}) == "");
  CHECK(fault_of<Store>({4, 90}, sara::test::every_position(90)) == "");  // one row has all
}

TEST_CASE("chunks of equal length follow each other, long ones first") {
  sara::host const backend{1};
  auto const store = sara::test::make_store<sara::row_index<sara::host>>(
      backend, {400, 40}, sara::test::random_positions("m", 16'000, 0.4));
  host_sampling_plan const plan{store.ref()};
  CHECK(plan.tasks() > 1);
  std::int64_t next = 0, blocks = 1, previous = host_sampling_plan::longest_chunk;
  for (std::int64_t t = 0; t < plan.tasks(); ++t)
    for (auto const& run : plan.task(t)) {
      CHECK(run.first == next);
      next += run.count;
      blocks += run.length > previous;
      previous = run.length;
    }
  CHECK(next == std::ssize(plan.chunks()));
  CHECK(blocks == 2);  // of 32 columns
}

TEST_CASE("bytes of a plan; positions that have 16-bit columns lend theirs") {
  sara::host const backend{1};
  auto const positions = sara::test::random_positions("m", 1000 * 1000, 0.02);
  auto const of = [&](auto const& store) { return host_sampling_plan{store.ref()}.bytes(); };
  auto const count = static_cast<std::int64_t>(positions.size());
  auto const rows = of(sara::test::make_store<sara::row_index<sara::host>>(backend, {1000, 1000}, positions));
  CHECK(rows > 0);
  CHECK(rows < count + count / 4);
  CHECK(of(sara::test::make_store<sara::flat_index<sara::host>>(backend, {1000, 1000}, positions)) == rows + 2 * count);
  CHECK(host_sampling_plan{}.bytes() == 0);
}
