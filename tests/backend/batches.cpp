// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <sara/backend/host/batches.hpp>

#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace {

struct one_by_one {
  std::vector<std::int64_t>* fetched;
  std::vector<std::int64_t>* seen;
  void prefetch(std::int64_t position) const { fetched->push_back(position); }
  void operator()(std::int64_t slot, std::int64_t position) const {
    CHECK(slot == std::ssize(*seen));
    CHECK(std::ssize(*fetched) > slot);
    seen->push_back(position);
  }
};

struct fetched_sum {
  std::vector<std::int64_t>* fetched;
  void prefetch(std::int64_t position) const { fetched->push_back(position); }
  std::int64_t operator()(std::int64_t, std::int64_t position) const { return position; }
};

struct in_runs {
  std::int64_t operator()(std::int64_t, std::int64_t position) const { return position; }
  std::int64_t operator()(std::int64_t, std::int64_t const* positions, std::int64_t count) const {
    CHECK((count > 0 && count <= sara::detail::batch_slots));
    std::int64_t sum = 0;
    for (std::int64_t j = 0; j < count; ++j) sum += positions[j];
    return sum;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("batches visit every slot once, in order, and fetch ahead", Store, SARA_HOST_STORES) {
  sara::host const backend{1};
  sara::matrix_shape const shape{50, 700};
  auto const positions = sara::test::random_positions("batches", shape.size(), 0.1);
  auto const store = sara::test::make_store<Store>(backend, shape, positions);
  std::int64_t sum = 0;
  for (auto const p : positions) sum += p;
  std::vector<std::int64_t> fetched;
  std::vector<std::int64_t> seen;
  sara::detail::visit_slots(store.ref(), 0, store.count(), one_by_one{&fetched, &seen});
  CHECK(seen == positions);
  CHECK(fetched == positions);
  CHECK(sara::detail::sum_of_slots<std::int64_t>(store.ref(), 0, store.count(), in_runs{}) == sum);
  fetched.clear();
  CHECK(sara::detail::sum_of_slots<std::int64_t>(store.ref(), 0, store.count(), fetched_sum{&fetched}) == sum);
  CHECK(fetched == positions);
  CHECK(sara::detail::sum_of_slots<std::int64_t>(store.ref(), 5, 6, in_runs{}) == positions[5]);
  CHECK(sara::detail::sum_of_slots<std::int64_t>(store.ref(), 7, 7, in_runs{}) == 0);
}
