// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/backend/host/buffer.hpp>

namespace {

using sara::host_buffer;

bool is_zero(std::span<std::int64_t const> all) {
  return std::all_of(all.begin(), all.end(), [](auto x) { return x == 0; });
}

}  // namespace

TEST_CASE("a buffer is zeroed, whether its memory is new or was used before") {
  for (std::int64_t const n : {0, 1, 1000, 262'143, 262'145, 3'000'000})  // around a huge page, and more of them
    for (int again = 0; again < 3; ++again) {
      host_buffer<std::int64_t> buffer(n);
      REQUIRE(std::ssize(buffer) == n);
      REQUIRE(is_zero(buffer));
      std::fill(buffer.begin(), buffer.end(), -1);
    }
}

TEST_CASE("a buffer moves with its memory and leaves nothing behind") {
  static_assert(std::is_nothrow_move_constructible_v<host_buffer<float>>);
  static_assert(!std::is_copy_constructible_v<host_buffer<float>>);
  host_buffer<float> first(3);
  first[1] = 2;
  auto const* const memory = first.data();
  auto second = std::move(first);
  CHECK(second.data() == memory);
  CHECK(first.size() == 0);  // NOLINT(bugprone-use-after-move)
  first = std::move(second);
  CHECK(first == std::vector<float>{0, 2, 0});
  CHECK(second.size() == 0);  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("buffers are compared element by element") {
  auto buffer = host_buffer<int>::for_overwrite(2);
  buffer[0] = 1;
  buffer[1] = 2;
  CHECK(buffer == std::vector{1, 2});
  CHECK(buffer != std::vector{1, 3});
  CHECK(buffer != std::vector{1});
  CHECK(host_buffer<int>{} == host_buffer<int>(0));
}

TEST_CASE("more memory than there can be") {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  CHECK_THROWS_AS(host_buffer<std::int64_t>{most}, std::bad_alloc);
  CHECK_THROWS_AS(host_buffer<std::int64_t>{-1}, std::bad_alloc);
  CHECK_THROWS_AS(static_cast<void>(host_buffer<std::int64_t>::for_overwrite(most)), std::bad_alloc);
}
