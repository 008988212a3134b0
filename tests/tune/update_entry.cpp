// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/tune/update_entry.hpp>
#include <sara/update/adamw.hpp>
#include <sara/update/sgd.hpp>

#include "../support/random.hpp"

namespace {

constexpr std::int64_t n = 20'000 + 7;  // more than one range, and a rest that fills no lanes

/// The whole pass, and the rule's kernel entry by entry, agree on values, moments and sums; the n entries that move are
/// `apart` weights from each other.
template <class R, class Rule>
void check_pass(Rule const& rule, double clip, std::int64_t apart) {
  constexpr double threshold = 0.3;
  sara::host const backend{2};
  auto weights = sara::test::uniform<R>("weights", n * apart);
  auto gradient = sara::test::uniform<R>("gradient", n);
  auto moments = sara::test::uniform<R>("moments", n * rule.moments());
  for (auto& m : moments) m = std::abs(m);
  auto expected = weights;
  auto expected_moments = moments;
  auto const kernel = rule.template kernel<R>({.t = 3, .rate = 1e-2});
  sara::detail::update_sums expected_sums;
  std::vector<std::int64_t> positions;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    auto const entry = static_cast<std::int64_t>(i);
    positions.push_back(entry * apart);
    auto& value = expected[static_cast<std::size_t>(positions.back())];
    expected_sums.squared_norm += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    kernel(value, static_cast<R>(clip) * gradient[i], sara::moments_of_entry<R>{expected_moments.data(), n, entry});
    expected_sums.at_or_above += static_cast<double>(std::abs(value)) >= threshold;
  }

  sara::entries<R> to;
  to.data = weights.data();
  to.count = n * apart;
  sara::flat_index<sara::host> const store{backend, {n, apart}, positions.data(), n};
  using entry = sara::detail::update_entry<R, R, std::remove_const_t<decltype(kernel)>>;
  sara::detail::update_sums sums;
  sara::reduce(backend, store.ref(),
               entry{to, nullptr, gradient.data(), moments.data(), n, rule.moments(), &clip, kernel, threshold}, &sums);
  double largest = 0;
  for (std::size_t i = 0; i < weights.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(weights[i] - expected[i])));
  for (std::size_t i = 0; i < moments.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(moments[i] - expected_moments[i])));
  CHECK(largest < (sizeof(R) == 4 ? 1e-6 : 1e-14));
  CHECK(sums.squared_norm == doctest::Approx(expected_sums.squared_norm));
  CHECK(std::abs(sums.at_or_above - expected_sums.at_or_above) <= 1);
  CHECK(gradient == std::vector<R>(gradient.size()));
}

}  // namespace

TEST_CASE_TEMPLATE("lanes move as single entries do", R, float, double) {
  for (std::int64_t const apart : {1, 3}) {
    check_pass<R>(sara::adamw{}, 1, apart);
    check_pass<R>(sara::adamw{.amsgrad = true}, 0.5, apart);
    check_pass<R>(sara::sgd{.momentum = 0.9, .nesterov = true}, 0.25, apart);
    check_pass<R>(sara::sgd{.weight_decay = 0.1}, 1, apart);
  }
}
