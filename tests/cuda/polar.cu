// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../conformance/polar.hpp"
#include "places.cuh"

SARA_POLAR_CASES(sara::test::on_loops);
SARA_POLAR_CASES(sara::test::on_device);

TEST_CASE("a singular value of 1e-7 of the largest is brought to one, however many are as large") {
  using namespace sara::cuda::detail;
  sara::test::loop_executor const machine{0};
  std::int64_t const side = 150;
  std::vector<std::int64_t> diagonal;
  for (std::int64_t i = 0; i < side; ++i) diagonal.push_back(i * side + i);
  std::vector<double> values(diagonal.size(), 3);

  dense_matrices<sara::test::loop_executor, double> identity{1, side, side, {}};
  identity.x.resize(static_cast<std::size_t>(side * side));
  for (auto const p : diagonal) identity.x[static_cast<std::size_t>(p)] = 3;
  scale(machine, identity);  // as far as it gets from one
  CHECK(identity.x[0] == doctest::Approx(std::pow(side, -1.0 / 8)));

  values.back() *= 1e-7;
  std::vector<double> const expected(diagonal.size(), 1);
  sara::test::loop_device const device{machine};
  auto const fault = [&]<class Engine>(Engine) {
    auto const got = sara::test::polar_there<Engine>(device, {side, side}, diagonal, values).second;
    return sara::test::difference(got, expected, {1e-4, 0});
  };
  CHECK(fault(sara::qdwh{}) == "");
  CHECK(fault(sara::polar_express{}) == "");

  auto const steps = halley_steps();
  double of_long_sides = 1e-7 * std::pow(15'000, -1.0 / 8);
  for (auto const& [a, b, c] : steps) {
    auto const squared = of_long_sides * of_long_sides;
    of_long_sides *= (a + b * squared) / (1 + c * squared);
  }
  CHECK(of_long_sides == doctest::Approx(1).epsilon(1e-12));
  CHECK(steps.size() == 5);
}
