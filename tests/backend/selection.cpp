// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <sara/backend/host/order_statistic.hpp>
#include <sara/backend/host/selection.hpp>
#include <sara/select/concept.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/random.hpp"

namespace {

using sara::key_cut;
using sara::magnitude;
using sara::never_key;
using sara::scored_tensor;

using weights = std::vector<scored_tensor<magnitude>>;

/// Keys of all entries of all tensors, in order.
std::vector<std::uint64_t> keys_of(weights const& tensors) {
  std::vector<std::uint64_t> keys;
  for (auto const& t : tensors)
    sara::visit(t.tensor.type(), [&]<class T>() {
      auto const w = t.tensor.template as<T>();
      for (std::int64_t i = 0; i < w.count; ++i) keys.push_back(sara::entry_key(t.score, sara::widen(w[i]), i));
    });
  return keys;
}

/// The cut for `rank` entries by sorting.
key_cut oracle(std::vector<std::uint64_t> keys, std::int64_t rank) {
  std::erase(keys, never_key);
  rank = std::min(rank, std::ssize(keys));
  if (rank <= 0) return {};
  auto const nth = keys.begin() + (rank - 1);
  std::nth_element(keys.begin(), nth, keys.end());
  auto const bound = *nth;
  return {bound, rank - std::count_if(keys.begin(), keys.end(), [&](auto key) { return key < bound; })};
}

/// Empty if order_statistic and compact agree with the oracle at this rank.
std::string disagreement(sara::thread_pool& pool, weights const& tensors, std::int64_t rank) {
  auto const keys = keys_of(tensors);
  auto const expected = oracle(keys, rank);
  auto const cut = sara::detail::order_statistic(pool, std::span<scored_tensor<magnitude> const>{tensors}, rank);
  if (cut.bound != expected.bound || cut.ties != expected.ties) return "another cut at rank " + std::to_string(rank);

  std::size_t key = 0;
  std::int64_t ties = cut.ties;
  for (auto const& t : tensors) {
    auto const found = sara::detail::compact(pool, t, {cut.bound, ties});
    std::vector<std::int64_t> positions;
    auto left = ties;
    for (std::int64_t i = 0; i < t.tensor.size(); ++i, ++key)
      if (keys[key] != never_key && (keys[key] < cut.bound || (keys[key] == cut.bound && left-- > 0)))
        positions.push_back(i);
    ties -= found.ties;
    if (found.positions != positions || found.count != std::ssize(positions))
      return "other positions at rank " + std::to_string(rank);
  }
  if (ties != 0) return "ties left at rank " + std::to_string(rank);
  return {};
}

std::vector<float> few_distinct(std::int64_t n) {
  sara::test::sequence numbers{"few"};
  std::vector<float> out(static_cast<std::size_t>(n));
  for (auto& x : out) x = static_cast<float>(numbers.integer(-2, 2)) / 4;
  return out;
}

/// A tenth each of NaN, infinity and its negative.
std::vector<float> not_finite_laden(std::int64_t n) {
  auto out = sara::test::uniform<float>("laden", n);
  sara::test::sequence numbers{"which"};
  for (auto& x : out) switch (numbers.integer(0, 9)) {
      case 0:
        x = std::numeric_limits<float>::quiet_NaN();
        break;
      case 1:
        x = std::numeric_limits<float>::infinity();
        break;
      case 2:
        x = -std::numeric_limits<float>::infinity();
        break;
      default:
        break;
    }
  return out;
}

void check_all_ranks(weights const& tensors) {
  std::int64_t size = 0;
  for (auto const& t : tensors) size += t.tensor.size();
  for (int const threads : {1, 3}) {
    sara::thread_pool pool{threads};
    for (std::int64_t const rank :
         {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, size / 20, size / 3, size * 7 / 10, size - 1, size}) {
      CAPTURE(threads);
      CHECK(disagreement(pool, tensors, rank) == "");
    }
  }
}

}  // namespace

TEST_CASE("a cut at any rank is that of a sorted list") {
  SUBCASE("random") {
    auto const w = sara::test::uniform<float>("random", 30'000, 0.1);
    check_all_ranks({{sara::view(w), {}}});
  }
  SUBCASE("all equal") {
    std::vector<float> const w(5000, -0.25f);
    check_all_ranks({{sara::view(w), {}}});
  }
  SUBCASE("few distinct, both zeros among them") {
    auto w = few_distinct(20'000);
    for (std::size_t i = 0; i < w.size(); i += 2)
      if (w[i] == 0) w[i] = -0.0f;
    check_all_ranks({{sara::view(w), {}}});
  }
  SUBCASE("NaN and infinity") {
    auto const w = not_finite_laden(10'000);
    check_all_ranks({{sara::view(w), {}}});
  }
  SUBCASE("nothing finite") {
    std::vector<float> const w(100, std::numeric_limits<float>::quiet_NaN());
    check_all_ranks({{sara::view(w), {}}});
  }
  SUBCASE("neighbouring doubles, so that all digits count") {
    std::vector<double> w;
    for (double x = 1; w.size() < 3000; x = std::nextafter(x, 2.0)) w.push_back(w.size() % 2 ? x : -x);
    check_all_ranks({{sara::view(w), {}}});
  }
  SUBCASE("subnormal") {
    auto const w = sara::test::uniform<double>("subnormal", 3000, 1e-310);
    check_all_ranks({{sara::view(w), {}}});
  }
}

TEST_CASE("several tensors of several types are one pool") {
  auto const a = sara::test::uniform<float>("a", 70'000);  // more than one range of entries
  auto const b = sara::test::uniform<double>("b", 1000);
  auto const c = sara::test::uniform<sara::bfloat16>("c", 3000);
  auto const d = sara::test::uniform<sara::float16>("d", 3000);
  std::vector<float> const none;
  auto const e = not_finite_laden(2000);
  check_all_ranks({{sara::view(a), {}},
                   {sara::view(b), {}},
                   {sara::view(none), {}},
                   {sara::const_tensor_view{c.data(), {30, 100}, {1, 30}}, {}},
                   {sara::view(d), {}},
                   {sara::view(e), {}}});
}

TEST_CASE("of many entries the cut is found by a bracket, or by radix where that misses") {
  constexpr std::int64_t n = 400'000;  // more than are simply collected
  sara::thread_pool pool{2};
  auto const check = [&](weights const& tensors) {
    for (std::int64_t const rank : {std::int64_t{1}, n / 170, n / 17, n / 2, n - 1, n})
      CHECK(disagreement(pool, tensors, rank) == "");
  };
  SUBCASE("random, in two tensors") {
    auto const a = sara::test::uniform<float>("many", n / 2, 0.1);
    auto const b = sara::test::uniform<double>("more", n / 2, 0.2);
    check({{sara::view(a), {}}, {sara::view(b), {}}});
  }
  SUBCASE("ties everywhere") {
    auto const w = sara::test::uniform<sara::bfloat16>("tied", n, 0.1);
    check({{sara::view(w), {}}});
  }
  SUBCASE("all equal") {
    std::vector<float> const w(n, 0.5f);
    check({{sara::view(w), {}}});
  }
  SUBCASE("two values, so that half of all is at each end of the bracket") {
    std::vector<float> w(n, 0.5f);
    for (std::size_t i = 0; i < w.size(); i += 2) w[i] = -0.25f;
    check({{sara::view(w), {}}});
  }
  SUBCASE("sorted") {
    std::vector<float> w(n);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i);
    check({{sara::view(w), {}}});
  }
  SUBCASE("mostly not finite") {
    auto const w = not_finite_laden(n);
    check({{sara::view(w), {}}});
  }
}

TEST_CASE("a bracket knows whether the cut is in it") {
  auto const w = sara::test::uniform<float>("bracket", 200'000);
  std::vector<scored_tensor<magnitude>> const tensors{{sara::view(w), {}}};
  std::span const scored{tensors};
  auto const sorted = [&] {
    auto keys = keys_of(tensors);
    std::sort(keys.begin(), keys.end());
    return keys;
  }();
  sara::thread_pool pool{2};
  sara::detail::key_bracket const middle{sorted[1000], sorted[1500]};
  for (std::int64_t const rank : {1, 1000, 1001, 1200, 1500, 1501, 1502, 5000, 200'000}) {
    auto const cut = sara::detail::cut_within(pool, scored, rank, {middle, 500});
    auto const expected = oracle(sorted, rank);
    CAPTURE(rank);
    CHECK(cut.has_value() == (expected.bound >= middle.lowest && expected.bound <= middle.highest));
    if (cut) CHECK((cut->bound == expected.bound && cut->ties == expected.ties));
  }
}

TEST_CASE("a bracket with too much inside is given up") {
  auto const w = sara::test::uniform<float>("wide", 3'000'000);
  std::vector<scored_tensor<magnitude>> const tensors{{sara::view(w), {}}};
  sara::thread_pool pool{2};
  CHECK_FALSE(sara::detail::cut_within(pool, std::span{tensors}, 1'000'000, {{}, 60'000}).has_value());
}

TEST_CASE("radix selection finds the same cut as the bracket") {
  auto const w = sara::test::uniform<sara::float16>("radix", 300'000, 0.1);
  std::vector<scored_tensor<magnitude>> const tensors{{sara::view(w), {}}};
  auto const keys = keys_of(tensors);
  sara::thread_pool pool{2};
  for (std::int64_t const rank : {1, 17'000, 250'000, 300'000}) {
    auto const cut = sara::detail::radix_order_statistic(pool, std::span{tensors}, rank);
    auto const expected = oracle(keys, rank);
    CHECK((cut.bound == expected.bound && cut.ties == expected.ties));
  }
}

TEST_CASE("a range boundary falls anywhere among the ties") {
  std::vector<float> const w(3 * sara::detail::selection_range + 5, 1.0f);
  sara::thread_pool pool{2};
  for (auto const rank : {sara::detail::selection_range - 1, sara::detail::selection_range,
                          sara::detail::selection_range + 1, 2 * sara::detail::selection_range})
    CHECK(disagreement(pool, {{sara::view(w), {}}}, rank) == "");
}

TEST_CASE("what is not finite is counted and never found") {
  auto const w = not_finite_laden(10'000);
  auto const bad = std::count_if(w.begin(), w.end(), [](float x) { return !std::isfinite(x); });
  REQUIRE(bad > 1000);
  sara::thread_pool pool{2};
  auto const all = sara::detail::compact(pool, scored_tensor<magnitude>{sara::view(w), {}}, {never_key, 100});
  CHECK(all.not_finite == bad);
  CHECK(all.count == std::ssize(w) - bad);
  CHECK(all.ties == 0);
  for (auto const p : all.positions) CHECK_UNARY(std::isfinite(w[static_cast<std::size_t>(p)]));
}
