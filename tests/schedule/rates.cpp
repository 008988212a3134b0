// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/schedule/rates.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"

namespace {

using sara::test::complaint;
using sara::test::difference;
using sara::test::golden;

std::vector<double> factors(sara::RateSchedule auto const& schedule, std::int64_t steps) {
  std::vector<double> out;
  for (std::int64_t step = 0; step < steps; ++step) out.push_back(schedule.factor(step));
  return out;
}

}  // namespace

TEST_CASE("eq. 12 of the thresholds that the paper uses") {
  CHECK(sara::rate_for_threshold(0) == 1e-3);
  CHECK(sara::rate_for_threshold(2e-4) == doctest::Approx(9.323938199059483e-4).epsilon(1e-14));
  CHECK(sara::rate_for_threshold(2e-3) == doctest::Approx(4.965853037914095e-4).epsilon(1e-14));
}

TEST_CASE("the cosine of the golden trajectories") {
  auto const adamw = golden("adamw.safetensors").read<double>("lr");
  std::vector<double> rates = factors(sara::cosine_rate{.steps = 20}, 20);
  for (auto& rate : rates) rate *= sara::rate_for_threshold(2e-3);
  CHECK(difference(rates, adamw, {0, 1e-12}) == "");

  auto const& mlp = golden("sara_mlp.safetensors");
  rates = factors(sara::cosine_rate{.steps = 60}, 60);
  for (auto& rate : rates) rate *= mlp.read<double>("hyper")[1];
  CHECK(difference(rates, mlp.read<double>("lr"), {0, 1e-12}) == "");
}

TEST_CASE("warm-up is linear and ends at the full rate") {
  auto const warm = std::vector<double>{0.25, 0.5, 0.75, 1};
  CHECK(difference(factors(sara::constant_rate{.warmup = 4}, 6), std::vector<double>{0.25, 0.5, 0.75, 1, 1, 1}, {}) ==
        "");
  CHECK(difference(factors(sara::cosine_rate{.steps = 10, .warmup = 4}, 4), warm, {}) == "");
  CHECK(difference(factors(sara::linear_rate{.steps = 10, .warmup = 4}, 4), warm, {}) == "");
  CHECK(sara::cosine_rate{.steps = 10, .warmup = 4}.factor(4) == 1);
  CHECK(sara::cosine_rate{.steps = 10, .warmup = 4}.factor(7) == doctest::Approx(0.5));
  CHECK(sara::linear_rate{.steps = 10, .warmup = 4}.factor(7) == doctest::Approx(0.5));
}

TEST_CASE("down to a floor, and no lower past the end") {
  CHECK(difference(factors(sara::linear_rate{.steps = 4, .floor = 0.2}, 7),
                   std::vector<double>{1, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2}, {1e-15, 0}) == "");
  sara::cosine_rate const cosine{.steps = 100, .floor = 0.1};
  for (std::int64_t step = 0; step < 100; ++step) CHECK(cosine.factor(step + 1) < cosine.factor(step));
  CHECK(cosine.factor(50) == doctest::Approx(0.55));
  CHECK(cosine.factor(100) == doctest::Approx(0.1));
  CHECK(cosine.factor(1'000'000) == cosine.factor(100));
}

TEST_CASE("a schedule is a rate and a factor for each step") {
  // [rates]
  sara::constant_rate const from_threshold{};  // no rate of its own: eq. 12 of the selection's threshold
  sara::cosine_rate const paper{.steps = 5000};
  sara::linear_rate const warmed_up{.rate = 4e-4, .steps = 5000, .warmup = 100, .floor = 0.1};

  double const first = *warmed_up.rate * warmed_up.factor(0);    // 4e-6
  double const full = *warmed_up.rate * warmed_up.factor(100);   // 4e-4
  double const last = *warmed_up.rate * warmed_up.factor(5000);  // 4e-5
  // [/rates]
  CHECK(!from_threshold.rate);
  CHECK(from_threshold.factor(123) == 1);
  CHECK(paper.factor(2500) == doctest::Approx(0.5));
  CHECK(first == doctest::Approx(4e-6));
  CHECK(full == doctest::Approx(4e-4));
  CHECK(last == doctest::Approx(4e-5));
}

TEST_CASE("a floor outside 0 to 1, or a warm-up below 0, is refused") {
  auto const refused = [](sara::RateSchedule auto schedule, std::string const& problem) {
    return complaint<sara::value_error>([&] { static_cast<void>(schedule.factor(0)); }, {problem});
  };
  CHECK(refused(sara::cosine_rate{.floor = 7}, "floor from 0 to 1, got 7") == "");
  CHECK(refused(sara::linear_rate{.floor = -1}, "floor from 0 to 1, got -1") == "");
  CHECK(refused(sara::constant_rate{.warmup = -5}, "warm-up of at least 0 steps, got -5") == "");
}

TEST_CASE("a warm-up that takes all steps, or none at all") {
  auto const refused = [](sara::RateSchedule auto schedule, std::string const& got) {
    return complaint<sara::value_error>([&] { static_cast<void>(schedule.factor(0)); }, {"expected more steps", got});
  };
  CHECK(refused(sara::cosine_rate{.steps = 10, .warmup = 10}, "got 10") == "");
  CHECK(refused(sara::linear_rate{.steps = 0}, "got 0") == "");
  CHECK(refused(sara::cosine_rate{.steps = 10, .warmup = -1}, "-1 of warm-up") == "");
}
