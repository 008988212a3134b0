// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <sara/schedule/reselection.hpp>

#include "../support/compare.hpp"

namespace {

using steps = std::vector<std::int64_t>;

/// The numbers of steps, of those up to 100, after which a policy reselects.
steps times(sara::ProgressiveScheduler auto const& policy) {
  steps out;
  for (std::int64_t step = 0; step <= 100; ++step)
    if (policy.reselects_after(step)) out.push_back(step);
  return out;
}

}  // namespace

TEST_CASE("when M is reselected") {
  CHECK(times(sara::reselect_halfway{.steps = 60}) == steps{30});
  CHECK(times(sara::reselect_halfway{.steps = 61}) == steps{30});
  CHECK(times(sara::reselect_halfway{}) == steps{});
  CHECK(sara::reselect_halfway{}.reselects_after(2500));
  CHECK(times(sara::reselect_at{.steps = {90, 7}}) == steps{7, 90});
  CHECK(times(sara::reselect_at{}) == steps{});
  CHECK(times(sara::reselect_every{.steps = 40}) == steps{40, 80});
  CHECK(times(sara::never_reselect{}) == steps{});
}

TEST_CASE("a number of steps that never comes is refused") {
  using sara::test::complaint;
  CHECK(complaint<sara::value_error>([] { return times(sara::reselect_halfway{.steps = 1}); },
                                     {"expected at least 2 steps, got 1"}) == "");
  CHECK(complaint<sara::value_error>([] { return times(sara::reselect_every{.steps = 0}); },
                                     {"expected at least 1 step, got 0"}) == "");
}

TEST_CASE_TEMPLATE("what stays is strictly below the selection's threshold, or the policy's own", Policy,
                   sara::reselect_halfway, sara::reselect_at, sara::reselect_every) {
  Policy policy{};
  auto keep = policy.keep(0.5);
  CHECK(keep(0.0f));
  CHECK(keep(0.25));
  CHECK(keep(-0.4999f));
  CHECK(!keep(0.5));
  CHECK(!keep(-0.5f));
  CHECK(!keep(std::numeric_limits<float>::quiet_NaN()));
  CHECK(!keep(-std::numeric_limits<double>::infinity()));

  CHECK(sara::test::complaint<sara::value_error>([&] { static_cast<void>(policy.keep({})); },
                                                 {"expected a threshold", "got none"}) == "");
  for (double const wrong : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    policy.threshold = wrong;
    CHECK(sara::test::complaint<sara::value_error>([&] { static_cast<void>(policy.keep(0.5)); },
                                                   {"threshold above 0"}) == "");
  }
  policy.threshold = 0.3;
  CHECK(!policy.keep(0.5)(0.4f));
  CHECK(policy.keep({})(0.2f));
}

TEST_CASE("never_reselect keeps everything and asks for no threshold") {
  auto const keep = sara::never_reselect{}.keep({});
  CHECK(keep(1e30f));
  CHECK(keep(std::numeric_limits<double>::quiet_NaN()));
}
