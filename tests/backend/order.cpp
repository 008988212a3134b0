// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <sara/backend/order.hpp>

#include "../support/random.hpp"

namespace {

using sara::never_key;
using sara::order_key;
using sara::score_of_key;

}  // namespace

TEST_CASE("keys have the order of the scores") {
  using limits = std::numeric_limits<double>;
  std::vector<double> const ascending{-limits::infinity(),
                                      limits::lowest(),
                                      -1.0,
                                      -limits::min(),
                                      -limits::denorm_min(),
                                      0.0,
                                      limits::denorm_min(),
                                      limits::min(),
                                      0.5,
                                      1.0,
                                      limits::max(),
                                      limits::infinity()};
  for (std::size_t i = 0; i < ascending.size(); ++i)
    for (std::size_t j = 0; j < ascending.size(); ++j)
      CHECK((order_key(ascending[i]) < order_key(ascending[j])) == (ascending[i] < ascending[j]));
}

TEST_CASE("keys of random bit patterns have their order, and come back") {
  sara::test::sequence numbers{"order"};
  int wrong = 0;
  for (int i = 0; i < 100'000; ++i) {
    auto const a = std::bit_cast<double>(numbers.bits());
    auto const b = std::bit_cast<double>(numbers.bits());
    if (std::isnan(a) || std::isnan(b)) continue;
    wrong += (order_key(a) < order_key(b)) != (a < b);
    wrong += score_of_key(order_key(a)) != a;
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("a score is below a key as its own key is", V, float, double) {
  using limits = std::numeric_limits<V>;
  using wide = std::numeric_limits<double>;
  std::vector<V> scores{-limits::infinity(),
                        limits::lowest(),
                        -1,
                        -limits::denorm_min(),
                        -0.0,
                        0.0,
                        limits::denorm_min(),
                        1,
                        limits::max(),
                        limits::infinity(),
                        limits::quiet_NaN()};
  std::vector<std::uint64_t> bounds{0, 1, never_key - 1, never_key, order_key(wide::lowest()), order_key(wide::max())};
  sara::test::sequence numbers{"below"};
  for (int i = 0; i < 300; ++i) scores.push_back(static_cast<V>(numbers.real()));
  for (auto const s : scores)
    for (auto const near : {-1, 0, 1}) bounds.push_back(order_key(s) + static_cast<std::uint64_t>(near));
  std::int64_t wrong = 0;
  for (auto const bound : bounds) {
    sara::below_key<V> const is_below{bound};
    for (auto const s : scores) wrong += is_below(s) != (s == s && order_key(s) < bound);
  }
  CHECK(wrong == 0);
}

TEST_CASE("a whole number is below a key") {
  for (std::uint64_t const bound : {std::uint64_t{0}, std::uint64_t{5}, never_key})
    for (std::uint64_t const score : {std::uint64_t{0}, std::uint64_t{4}, std::uint64_t{5}, never_key - 1, never_key})
      CHECK(sara::below_key<std::uint64_t>{bound}(score) == (score < bound));
}

TEST_CASE("the zeros are one score") {
  CHECK(order_key(-0.0) == order_key(0.0));
  CHECK(score_of_key(order_key(-0.0)) == 0.0);
}

TEST_CASE("NaN is never selected") {
  auto const nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(order_key(nan) == never_key);
  CHECK(order_key(-nan) == never_key);
  CHECK(order_key(std::numeric_limits<double>::infinity()) < never_key);
}

TEST_CASE("whole numbers are their own keys") {
  CHECK(order_key(std::uint64_t{0}) == 0);
  CHECK(order_key(std::uint64_t{7}) == 7);
}

TEST_CASE("the scores below a threshold are those whose keys are below its cut") {
  float const w = 0;
  double v = 0;
  sara::const_tensor_view const narrow{&w, sara::extents{1}}, wide{&v, sara::extents{1}};
  auto const whole = [](auto, std::int64_t i) { return static_cast<std::uint64_t>(i); };
  auto const real = [](auto x, std::int64_t) { return x; };
  auto const infinity = std::numeric_limits<double>::infinity();
  for (double const threshold : {-infinity, -2.0, -0.0, 0.25, 1.0, 1.5, 7.0, 0x1p63, infinity})
    for (auto const& tensor : {narrow, wide}) {
      auto const of_whole = sara::cut_below(sara::scored_tensor<decltype(whole)>{tensor, whole}, threshold);
      for (std::uint64_t const score : {0u, 1u, 2u, 7u, 8u})
        CHECK((order_key(score) < of_whole.bound) == (static_cast<double>(score) < threshold));
      auto const of_real = sara::cut_below(sara::scored_tensor<decltype(real)>{tensor, real}, threshold);
      CHECK(of_real.bound == order_key(threshold));
      CHECK(of_whole.ties + of_real.ties == 0);
    }
}

TEST_CASE("an entry whose weight is not finite has no key, whatever its score") {
  auto const one = [](auto, std::int64_t) { return 1.0; };
  CHECK(sara::entry_key(one, 3.0f, 0) == order_key(1.0));
  CHECK(sara::entry_key(one, std::numeric_limits<float>::infinity(), 0) == never_key);
  CHECK(sara::entry_key(one, -std::numeric_limits<double>::infinity(), 0) == never_key);
  CHECK(sara::entry_key(one, std::numeric_limits<float>::quiet_NaN(), 0) == never_key);
  CHECK(sara::entry_key([](auto w, std::int64_t i) { return static_cast<double>(w) * static_cast<double>(i); }, 3.0f,
                        2) == order_key(6.0));
}

TEST_CASE("what is a score") {
  auto const real = [](auto w, std::int64_t) { return static_cast<double>(w); };
  auto const bits = [](auto, std::int64_t i) { return static_cast<std::uint64_t>(i); };
  auto const text = [](auto, std::int64_t) { return std::string{}; };
  auto const one_argument = [](auto w) { return static_cast<double>(w); };
  static_assert(sara::Score<decltype(real)> && sara::Score<decltype(bits)>);
  static_assert(!sara::Score<decltype(text)> && !sara::Score<decltype(one_argument)>);
  CHECK(sara::key_cut{}.bound == 0);
}
