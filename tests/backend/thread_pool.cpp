// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sara/backend/thread_pool.hpp>

#ifdef __linux__
#include <sched.h>
#endif

#include "../support/compare.hpp"
#include "../support/stores.hpp"

namespace {

using sara::thread_pool;

/// How often each task ran.
std::vector<int> runs(thread_pool& pool, std::int64_t tasks) {
  std::vector<int> out(static_cast<std::size_t>(tasks));
  pool.parallel_for(tasks, [&](std::int64_t i) { ++out[static_cast<std::size_t>(i)]; });
  return out;
}

bool all_once(std::vector<int> const& counts) {
  return std::all_of(counts.begin(), counts.end(), [](int n) { return n == 1; });
}

}  // namespace

TEST_CASE("each task runs once, for any number of threads and tasks") {
  for (int const threads : sara::test::thread_counts) {
    thread_pool pool{threads};
    CHECK(pool.size() == threads);
    for (std::int64_t const tasks : {0, 1, 2, 3, 64, 1000}) CHECK(all_once(runs(pool, tasks)));
    pool.parallel_for(-1, [](std::int64_t) { FAIL("no task was asked for"); });
  }
  CHECK(thread_pool{}.size() >= 1);
}

#ifdef __linux__
TEST_CASE("no more threads than the process may use processors") {
  cpu_set_t all, one;
  REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
  int first = 0;
  while (!CPU_ISSET(first, &all)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(thread_pool{}.size() == 1);
  REQUIRE(sched_setaffinity(0, sizeof all, &all) == 0);
  CHECK(thread_pool{}.size() == CPU_COUNT(&all));
}
#endif

TEST_CASE("many short calls after one another") {
  thread_pool pool{3};
  std::int64_t sum = 0;
  for (int call = 0; call < 2000; ++call) {
    std::atomic<std::int64_t> part{0};
    pool.parallel_for(4, [&](std::int64_t i) { part += i; });
    sum += part;
  }
  CHECK(sum == 2000 * 6);
}

TEST_CASE("a call from inside a task runs there") {
  for (int const threads : sara::test::thread_counts) {
    thread_pool pool{threads};
    thread_pool other{2};
    std::vector<int> inner(6 * 10);
    pool.parallel_for(6, [&](std::int64_t i) {
      auto const thread = std::this_thread::get_id();
      (i % 2 ? other : pool).parallel_for(10, [&, i](std::int64_t j) {
        if (i % 2 == 0 && threads > 1 && std::this_thread::get_id() != thread) throw std::logic_error("left its task");
        ++inner[static_cast<std::size_t>(i * 10 + j)];
      });
    });
    CHECK(all_once(inner));
  }
}

TEST_CASE("what a task throws arrives at the caller, and the pool lives on") {
  for (int const threads : sara::test::thread_counts) {
    thread_pool pool{threads};
    for (std::int64_t const bad : {0, 5, 99}) {
      std::atomic<int> ended{0};
      CHECK(sara::test::complaint<std::out_of_range>(
                [&] {
                  pool.parallel_for(100, [&](std::int64_t i) {
                    if (i == bad) throw std::out_of_range("task");
                    ++ended;
                  });
                },
                {"task"}) == "");
      CHECK(ended < 100);
      CHECK(all_once(runs(pool, 100)));
    }
    CHECK_THROWS_AS(pool.parallel_for(50, [](std::int64_t) { throw 1; }), int);
    CHECK_THROWS_AS(pool.parallel_for(1, [](std::int64_t) { throw 1; }), int);
  }
}

TEST_CASE("what a nested call throws arrives too") {
  thread_pool pool{3};
  CHECK_THROWS_AS(pool.parallel_for(4,
                                    [&](std::int64_t) {
                                      pool.parallel_for(4, [](std::int64_t j) {
                                        if (j == 3) throw 1;
                                      });
                                    }),
                  int);
  CHECK(all_once(runs(pool, 10)));
}

TEST_CASE("two threads of the user at once") {
  thread_pool pool{3};
  std::vector<char> good(4);
  std::vector<std::thread> users;
  for (char& mine : good)
    users.emplace_back([&pool, &mine] {
      bool once = true;
      for (int call = 0; call < 200; ++call) once = once && all_once(runs(pool, 17));
      mine = once ? 1 : 0;
    });
  for (auto& user : users) user.join();
  CHECK(good == std::vector<char>(4, 1));
}

TEST_CASE("a call from another thread's thread ends although the pool is busy") {
  thread_pool pool{2};
  int inner = 0;
  pool.parallel_for(2, [&](std::int64_t i) {
    if (i == 0) std::thread{[&] { pool.parallel_for(5, [&](std::int64_t) { ++inner; }); }}.join();
  });
  CHECK(inner == 5);
}
