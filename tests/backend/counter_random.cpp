// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <set>

#include <sara/backend/counter_random.hpp>

TEST_CASE("numbers are pure functions of their arguments") {
  static_assert(sara::mix_bits(0) == 0xe220a8397b1dcdafu);  // the first numbers of SplitMix64 from seed 0
  static_assert(sara::mix_bits(0x9e3779b97f4a7c15u) == 0x6e789e6aa1b965f4u);
  static_assert(sara::stream_of("") == 0xcbf29ce484222325u);  // FNV-1a's published values
  static_assert(sara::stream_of("a") == 0xaf63dc4c8601ec8cu);
  static_assert(sara::stream_of("foobar") == 0x85944171f73967e8u);
  static_assert(sara::counter_bits(1, 2, 3) == sara::counter_bits(1, 2, 3));
  CHECK(sara::counter_bits(0, 0, 0) != sara::counter_bits(1, 0, 0));
  CHECK(sara::counter_bits(0, 0, 0) != sara::counter_bits(0, 1, 0));
  CHECK(sara::counter_bits(0, 0, 0) != sara::counter_bits(0, 0, 1));
}

TEST_CASE("every bit is one half of the time, and neighbours differ in half of the bits") {
  constexpr int n = 20'000;
  int ones[64] = {};
  std::int64_t changed = 0;
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < n; ++i) {
    auto const x = sara::counter_bits(7, sara::stream_of("w"), i);
    for (int b = 0; b < 64; ++b) ones[b] += static_cast<int>(x >> b & 1);
    changed += std::popcount(x ^ sara::counter_bits(7, sara::stream_of("w"), i + 1));
    seen.insert(x);
  }
  CHECK(seen.size() == n);
  for (int const count : ones) CHECK(count == doctest::Approx(n / 2).epsilon(0.05));
  CHECK(changed == doctest::Approx(32.0 * n).epsilon(0.01));
}
