// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
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
std::string fault_of(sara::matrix_shape shape, std::vector<std::int64_t> const& positions, int threads = 1) {
  sara::host const backend{1};
  auto const store = sara::test::make_store<Store>(backend, shape, positions);
  host_sampling_plan const plan{store.ref(), threads};
  if (std::ssize(plan.parts()) > threads) return "more parts than threads";
  auto const* const columns = plan.columns(store.ref());
  std::vector<int> seen(positions.size());
  std::int64_t next_piece = 0;
  for (auto const& part : plan.parts()) {
    if (plan.blocks(part).empty()) return "a part without entries";
    if (plan.pieces(part).first != next_piece) return "pieces of a part elsewhere";
    auto next_column = part.first_column;
    for (auto const& block : plan.blocks(part)) {
      if (block.first_column < next_column || block.last_column > part.last_column) return "a block out of order";
      if (block.pieces.first != next_piece || block.pieces.last <= next_piece) return "pieces of a block elsewhere";
      next_column = block.last_column;
      next_piece = block.pieces.last;
      for (auto piece = block.pieces.first; piece < block.pieces.last; ++piece)
        for (auto const& run : plan.piece(piece)) {
          if (run.length < 1 || run.length > host_sampling_plan::longest_chunk) return "a length out of range";
          for (auto i = run.first; i < run.first + run.count; ++i) {
            auto const chunk = plan.chunks()[static_cast<std::size_t>(i)];
            for (auto slot = chunk.slot(); slot < chunk.slot() + run.length; ++slot) {
              auto const at = static_cast<std::size_t>(slot);
              auto const column = run.column + columns[at];
              ++seen.at(at);
              if (chunk.row() * shape.cols + column != positions[at]) return "a wrong row or column";
              if (chunk.row() < part.first_row || chunk.row() >= part.last_row) return "a row of another part";
              if (column < block.first_column || column >= block.last_column) return "a column of another block";
            }
          }
        }
    }
    if (plan.pieces(part).last != next_piece) return "pieces of a part elsewhere";
  }
  return std::count(seen.begin(), seen.end(), 1) == std::ssize(seen) ? "" : "a slot not exactly once";
}

/// Parts of a plan for so many threads, as (rows, columns) of bands.
std::pair<std::size_t, std::size_t> grid_of(sara::matrix_shape shape, double density, int threads) {
  sara::host const backend{1};
  auto const store = sara::test::make_store<sara::row_index<sara::host>>(
      backend, shape, sara::test::random_positions("m", shape.size(), density));
  host_sampling_plan const plan{store.ref(), threads};
  std::set<std::int64_t> rows, columns;
  for (auto const& part : plan.parts()) {
    rows.insert(part.first_row);
    columns.insert(part.first_column);
  }
  CHECK(rows.size() * columns.size() == plan.parts().size());
  return {rows.size(), columns.size()};
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

TEST_CASE_TEMPLATE("parts share no slot, and have their rows and columns to themselves", Store, SARA_HOST_STORES) {
  for (int const threads : {2, 3, 4, 7, 64}) {
    CAPTURE(threads);
    for (double const density : {0.004, 0.05, 0.3, 1.0})
      CHECK(fault_of<Store>({300, 700}, sara::test::random_positions("m", 300 * 700, density), threads) == "");
    CHECK(fault_of<Store>({3, 200'000}, sara::test::random_positions("wide", 600'000, 0.05), threads) == "");
    CHECK(fault_of<Store>({200'000, 1}, sara::test::random_positions("narrow", 200'000, 0.5), threads) == "");
    CHECK(fault_of<Store>({4, 90'000}, sara::test::every_position(90'000), threads) == "");  // one row has all
    CHECK(fault_of<Store>({9, 5}, {}, threads) == "");
  }
}

TEST_CASE("a matrix is cut across its longer side, and only where that is worth a thread") {
  using bands = std::pair<std::size_t, std::size_t>;
  CHECK(grid_of({1000, 1000}, 0.1, 1) == bands{1, 1});
  CHECK(grid_of({4000, 500}, 0.1, 2) == bands{2, 1});
  CHECK(grid_of({500, 4000}, 0.1, 2) == bands{1, 2});
  CHECK(grid_of({1000, 1000}, 0.1, 4) == bands{2, 2});
  CHECK(grid_of({100, 100}, 0.05, 8) == bands{1, 1});
  CHECK(grid_of({2, 100'000}, 0.3, 8) == bands{1, 8});
}

TEST_CASE("bands of rows have about equally many entries") {
  sara::host const backend{1};
  std::vector<std::int64_t> positions;
  for (std::int64_t r = 0; r < 500; ++r)
    for (std::int64_t c = 0; c < r; ++c) positions.push_back(r * 500 + c);
  auto const store = sara::test::make_store<sara::row_index<sara::host>>(backend, {500, 500}, positions);
  host_sampling_plan const plan{store.ref(), 2};
  REQUIRE(plan.parts().size() == 2);
  CHECK(std::abs(plan.parts()[1].first_row - 354) < 3);  // 500 / sqrt(2)
}

TEST_CASE("a plan of other positions is refused") {
  sara::host const backend{1};
  auto const store = sara::test::make_store<sara::flat_index<sara::host>>(backend, {4, 5}, {3, 7});
  auto const columns = [&](host_sampling_plan const& plan) {
    return sara::test::complaint<sara::shape_error>([&] { return plan.columns(store.ref()); },
                                                    {"plan", "2 positions in 4 x 5"});
  };
  auto const plan_of = [&](auto const& other) { return host_sampling_plan{other.ref()}; };
  CHECK(columns(host_sampling_plan{}) == "");
  CHECK(columns(plan_of(sara::test::make_store<sara::flat_index<sara::host>>(backend, {4, 5}, {3}))) == "");
  CHECK(columns(plan_of(sara::test::make_store<sara::flat_index<sara::host>>(backend, {5, 4}, {3, 7}))) == "");
  CHECK(columns(plan_of(sara::test::make_store<sara::row_index<sara::host>>(backend, {4, 5}, {3, 7}))) == "");
}

TEST_CASE("chunks of equal length follow each other, long ones first") {
  sara::host const backend{1};
  auto const store = sara::test::make_store<sara::row_index<sara::host>>(
      backend, {400, 40}, sara::test::random_positions("m", 16'000, 0.4));
  host_sampling_plan const plan{store.ref()};
  REQUIRE(plan.parts().size() == 1);
  CHECK(plan.pieces(plan.parts()[0]).last > 1);
  std::int64_t next = 0, blocks = 1, previous = host_sampling_plan::longest_chunk;
  for (std::int64_t piece = 0; piece < plan.pieces(plan.parts()[0]).last; ++piece)
    for (auto const& run : plan.piece(piece)) {
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
