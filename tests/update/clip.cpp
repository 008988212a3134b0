// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/update/clip.hpp>

#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace {

double factor(double squared, double max) {
  double out = -1;
  sara::clip_factor(sara::host{1}, &squared, max, &out);
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("squared norm, added up in double, the same bits for any threads", R, float, double) {
  auto const column = sara::test::uniform<R>("column", 100'000, 1e-3);
  long double expected = 0;
  for (auto const x : column) expected += static_cast<long double>(x) * x;
  std::vector<double> got;
  for (int const threads : sara::test::thread_counts) {
    got.push_back(7);
    sara::squared_norm(sara::host{threads}, column.data(), std::ssize(column), &got.back());
  }
  CHECK(got[0] == doctest::Approx(7 + static_cast<double>(expected)).epsilon(1e-13));
  for (auto const sum : got) CHECK(sum == got[0]);
}

TEST_CASE("clipping shortens to the norm and never lengthens") {
  CHECK(factor(16, 1) == 0.25);
  CHECK(factor(16, 4) == 1);
  CHECK(factor(16, 5) == 1);
  CHECK(factor(0, 1) == 1);
  CHECK(factor(1e-300, 1e-200) == doctest::Approx(1e-50));
}

TEST_CASE("a gradient that is not a number stays visible") {
  CHECK(std::isnan(factor(std::numeric_limits<double>::quiet_NaN(), 1)));
}
