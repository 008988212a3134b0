// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/ranked.hpp>
#include <sara/select/select.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/random.hpp"
#include "../support/selected.hpp"
#include "../support/stores.hpp"

namespace {

using sara::host;
using sara::scope;
using sara::test::selected;
using sara::test::uniform;

using model = std::vector<sara::const_named_tensor>;
using positions = std::vector<std::int64_t>;

std::int64_t total(std::vector<positions> const& all) {
  std::int64_t n = 0;
  for (auto const& p : all) n += std::ssize(p);
  return n;
}

}  // namespace

TEST_CASE("the smallest and the largest, over the model and of each tensor") {
  std::vector<float> const a{5, -1, 3, 0.5f};
  std::vector<double> const b{-0.25, 8, 2, -4};
  model const weights{{"a", sara::view(a)}, {"b", sara::view(b)}};

  CHECK(selected(weights, sara::smallest{.count = 3}) == std::vector<positions>{{1, 3}, {0}});
  CHECK(selected(weights, sara::smallest{.count = 2, .over = scope::tensor}) == std::vector<positions>{{1, 3}, {0, 2}});
  CHECK(selected(weights, sara::largest{.count = 3}) == std::vector<positions>{{0}, {1, 3}});
  CHECK(selected(weights, sara::largest{.fraction = 0.25, .over = scope::tensor}) == std::vector<positions>{{0}, {1}});
}

TEST_CASE("exactly the fraction or count that was asked for, ties or not") {
  sara::test::sequence numbers{"ties"};
  std::vector<float> a(3000), b(5000);
  for (auto* w : {&a, &b})
    for (auto& x : *w) x = static_cast<float>(numbers.integer(-3, 3));
  auto const c = uniform<sara::float16>("c", 2000);
  model const weights{{"a", sara::view(a)}, {"b", sara::view(b)}, {"c", sara::view(c)}};
  for (std::int64_t const count : {0, 1, 17, 2500, 5000, 9999, 10'000}) {
    CHECK(total(selected(weights, sara::smallest{.count = count})) == count);
    CHECK(total(selected(weights, sara::largest{.count = count})) == count);
    CHECK(total(selected(weights, sara::random{.count = count})) == count);
  }
  for (double const fraction : {0.0, 0.01, 0.05, 0.5, 0.99995, 1.0}) {
    CHECK(total(selected(weights, sara::smallest{.fraction = fraction})) == std::llround(fraction * 10'000));
    auto const each = selected(weights, sara::largest{.fraction = fraction, .over = scope::tensor});
    CHECK(std::ssize(each[0]) == std::llround(fraction * 3000));
    CHECK(std::ssize(each[1]) == std::llround(fraction * 5000));
  }
}

TEST_CASE("equal magnitudes go in the order of tensors, then of positions") {
  std::vector<float> const a{1, -1, 1, 0}, b{-1, 1, -0.0f};
  model const weights{{"a", sara::view(a)}, {"b", sara::view(b)}};
  CHECK(selected(weights, sara::smallest{.count = 5}) == std::vector<positions>{{0, 1, 2, 3}, {2}});
  CHECK(selected(weights, sara::smallest{.count = 1}) == std::vector<positions>{{3}, {}});
  CHECK(selected(weights, sara::largest{.count = 4}) == std::vector<positions>{{0, 1, 2}, {0}});
  std::vector<float> const zeros{0.0f, -0.0f, 0.0f, -0.0f};
  model const nothing{{"zeros", sara::view(zeros)}};
  CHECK(selected(nothing, sara::smallest{.count = 2}) == std::vector<positions>{{0, 1}});
  CHECK(selected(nothing, sara::largest{.count = 2}) == std::vector<positions>{{0, 1}});
}

TEST_CASE("what is not finite is never selected, though it counts for a fraction") {
  constexpr auto infinity = std::numeric_limits<float>::infinity();
  std::vector<float> const w{infinity, 1, std::nanf(""), -infinity, -2, 3, std::nanf(""), 4, infinity, 5};
  model const weights{{"w", sara::view(w)}};
  CHECK(selected(weights, sara::smallest{.fraction = 0.2}) == std::vector<positions>{{1, 4}});
  CHECK(selected(weights, sara::largest{.fraction = 0.2}) == std::vector<positions>{{7, 9}});
  CHECK(selected(weights, sara::largest{.fraction = 1.0}) == std::vector<positions>{{1, 4, 5, 7, 9}});
  auto const all = sara::select(host{1}, std::span{weights}, sara::smallest{.count = 6});
  CHECK(all[0].count == 5);  // one more was asked for than there is
  CHECK(all[0].not_finite == 5);
  CHECK(all[0].threshold == std::nextafter(5.0, 6.0));
}

TEST_CASE("a count by magnitude tells its threshold") {
  auto const w = uniform<float>("w", 1000);
  model const weights{{"w", sara::view(w)}};
  for (std::int64_t const count : {0, 1, 400, 1000}) {
    auto const s = sara::select(host{1}, std::span{weights}, sara::smallest{.count = count});
    REQUIRE(s[0].threshold.has_value());
    auto const below =
        std::count_if(w.begin(), w.end(), [&](float x) { return std::abs(static_cast<double>(x)) < *s[0].threshold; });
    CHECK(below == count);
  }
  CHECK_FALSE(sara::select(host{1}, std::span{weights}, sara::largest{.count = 5})[0].threshold.has_value());
}

TEST_CASE("random is a function of seed, name and position alone") {
  auto const a = uniform<float>("a", 4000);
  auto const b = uniform<double>("b", 9000);
  std::vector<sara::bfloat16> const c(2000);
  model const weights{{"a", sara::view(a)}, {"b", sara::view(b)}, {"c", sara::view(c)}};
  model const shuffled{weights[2], weights[0], weights[1]};
  sara::random const selector{.fraction = 0.1, .seed = 11};

  auto const first = selected(weights, selector);
  for (int const threads : sara::test::thread_counts) CHECK(selected(weights, selector, host{threads}) == first);
  auto const other_order = selected(shuffled, selector);
  CHECK(other_order[1] == first[0]);
  CHECK(other_order[2] == first[1]);
  CHECK(other_order[0] == first[2]);

  CHECK(selected(weights, sara::random{.fraction = 0.1, .seed = 12}) != first);
  model renamed = weights;
  renamed[0].name = "another";
  CHECK(selected(renamed, selector)[0] != first[0]);
  std::vector<float> const other_values(4000, 7.0f);
  model const revalued{{"a", sara::view(other_values)}, weights[1], weights[2]};
  CHECK(selected(revalued, selector) == first);
}

TEST_CASE("random has the right density everywhere") {
  std::vector<float> const a(50'000), b(50'000);
  model const weights{{"a", sara::view(a)}, {"b", sara::view(b)}};
  auto const found = selected(weights, sara::random{.fraction = 0.1});
  CHECK(total(found) == 10'000);
  for (auto const& positions_of_one : found) {
    CHECK(std::ssize(positions_of_one) == doctest::Approx(5000).epsilon(0.05));
    auto const half =
        std::count_if(positions_of_one.begin(), positions_of_one.end(), [](auto p) { return p < 25'000; });
    CHECK(half == doctest::Approx(2500).epsilon(0.07));
  }
  CHECK(found[0] != found[1]);
}

TEST_CASE("random spares what is not finite") {
  std::vector<float> w(1000, std::nanf(""));
  for (std::size_t i = 0; i < w.size(); i += 4) w[i] = 1;
  model const weights{{"w", sara::view(w)}};
  auto const found = selected(weights, sara::random{.count = 100})[0];
  CHECK(found.size() == 100);
  CHECK(std::all_of(found.begin(), found.end(), [](auto p) { return p % 4 == 0; }));
}

TEST_CASE("what is a selector") {
  static_assert(sara::ThresholdSelector<sara::smallest> && sara::ThresholdSelector<sara::largest> &&
                sara::ThresholdSelector<sara::random>);
  CHECK(sara::smallest{.fraction = 0.5}.over == scope::model);
}
