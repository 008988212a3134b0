// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/select.hpp>
#include <sara/select/where.hpp>
#include <sara/tensor/vector.hpp>

TEST_CASE_TEMPLATE("entries for which a callable says yes", T, double, float, sara::bfloat16, sara::float16) {
  std::vector<T> w;
  for (double const x : {0.5, -0.25, 0.125, 0.0, 2.0}) w.push_back(sara::narrow<T>(x));
  w.push_back(sara::narrow<T>(std::numeric_limits<sara::widened<T>>::infinity()));
  std::vector<sara::const_named_tensor> const named{{"w", sara::view(w)}};
  sara::host const backend{1};

  // [where]
  auto const small_positive = sara::where{[](auto weight, std::int64_t) { return weight > 0 && weight < 1; }};
  auto const selected = sara::select(backend, std::span{named}, small_positive);
  // [/where]
  CHECK(selected[0].positions == std::vector<std::int64_t>{0, 2});
  CHECK(selected[0].not_finite == 1);
  CHECK_FALSE(selected[0].threshold.has_value());
}

TEST_CASE("a callable sees positions and what it captured") {
  std::vector<float> const w(1000, 1.0f);
  std::vector<sara::const_named_tensor> const named{{"w", sara::view(w)}};
  std::int64_t const step = std::ssize(w) / 4;
  auto const selected = sara::select(sara::host{2}, std::span{named},
                                     sara::where{[step](auto, std::int64_t position) { return position % step == 0; }});
  CHECK(selected[0].positions == std::vector<std::int64_t>{0, 250, 500, 750});
}

TEST_CASE("a weight that is not finite is not selected whatever the callable says") {
  std::vector<float> const w{1, std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()};
  std::vector<sara::const_named_tensor> const named{{"w", sara::view(w)}};
  auto const selected =
      sara::select(sara::host{1}, std::span{named}, sara::where{[](auto, std::int64_t) { return true; }});
  CHECK(selected[0].positions == std::vector<std::int64_t>{0});
  CHECK(selected[0].not_finite == 2);
}
