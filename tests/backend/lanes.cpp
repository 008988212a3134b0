// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <utility>

#include <sara/backend/host/lanes.hpp>

using sara::detail::lane_count;
using sara::detail::lanes;

TEST_CASE_TEMPLATE("a square of lanes is transposed", R, float, double) {
  constexpr auto n = lane_count<R>;
  std::array<lanes<R>, n> square;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) square[i][j] = static_cast<R>(100 * i + j);
  sara::detail::transpose<R>(square);
  bool right = true;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) right &= square[i][j] == static_cast<R>(100 * j + i);
  CHECK(right);
}

TEST_CASE_TEMPLATE("lane l becomes the sum of vector l, for any number of vectors", R, float, double) {
  constexpr auto n = lane_count<R>;
  auto const check = []<std::size_t N>(std::integral_constant<std::size_t, N>) {
    std::array<lanes<R>, N> v;
    for (std::size_t i = 0; i < N; ++i)
      for (std::size_t j = 0; j < n; ++j) v[i][j] = static_cast<R>(100 * i + j);
    sara::detail::sum_lanes<R, N>(v.data());
    for (std::size_t i = 0; i < N; ++i) {
      R const sum = v[0][i];  // Clang binds no reference to an element
      CHECK(sum == static_cast<R>(n * (100 * i) + n * (n - 1) / 2));
    }
  };
  check(std::integral_constant<std::size_t, 1>{});
  check(std::integral_constant<std::size_t, n / 2>{});
  check(std::integral_constant<std::size_t, n - 1>{});
  check(std::integral_constant<std::size_t, n>{});
}

template <class R, std::size_t N>
void check_add_first() {
  CAPTURE(N);
  constexpr auto n = lane_count<R>;
  std::array<R, n> from, to, expected;
  for (std::size_t l = 0; l < n; ++l) from[l] = static_cast<R>(l + 1);
  for (std::size_t l = 0; l < n; ++l) expected[l] = R{100} + (l < N ? from[l] : R{0});
  to.fill(R{100});
  sara::detail::add_first<N>(from.data(), to.data());
  CHECK(to == expected);
}

TEST_CASE_TEMPLATE("the first lanes are added, and nothing else is touched", R, float, double) {
  []<std::size_t... N>(std::index_sequence<N...>) { (check_add_first<R, N>(), ...); }
  (std::make_index_sequence<lane_count<R> + 1>{});
}
