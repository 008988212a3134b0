// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backend/host.hpp>

#include "../support/compare.hpp"

TEST_CASE("what is a backend") {
  static_assert(sara::TensorBackend<sara::host>);
  static_assert(!sara::TensorBackend<int> && !sara::TensorBackend<sara::thread_pool>);
}

TEST_CASE("a tensor in another memory is refused with its name") {
  float x = 0;
  sara::host const backend{1};
  CHECK_NOTHROW(sara::require_memory(backend, "X", sara::tensor_view{&x, {1}}));
  CHECK(sara::test::complaint<sara::memory_error>(
            [&] {
              sara::require_memory(backend, "X", sara::const_tensor_view{&x, {1}, sara::memory::cuda});
            },
            {"X", "expected a tensor in host memory", "got one in CUDA device memory"}) == "");
}

TEST_CASE("one job alone") {
  sara::host const backend{2};
  std::vector<std::int64_t> seen(5);
  sara::for_each(backend, sara::all_positions{5},
                 [to = seen.data()](std::int64_t slot, std::int64_t p) { to[slot] = p + 1; });
  CHECK(seen == std::vector<std::int64_t>{1, 2, 3, 4, 5});
  double sum = 3;
  sara::reduce(
      backend, sara::all_positions{5}, [](std::int64_t, std::int64_t p) { return static_cast<double>(p); }, &sum);
  CHECK(sum == 13);  // added to what was there
  sara::set_zero(backend, seen.data(), 4);
  CHECK(seen == std::vector<std::int64_t>{0, 0, 0, 0, 5});
}
