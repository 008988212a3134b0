// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <concepts>
#include <string>
#include <vector>

#include <sara/update/sgd.hpp>

#include "../support/compare.hpp"
#include "../support/rule.hpp"

namespace {

using sara::test::complaint;
using sara::test::difference;

/// Values after `steps` steps of rate 0.1 with the same gradient each.
template <sara::Real R>
std::vector<R> after(int steps, sara::sgd const& rule, std::vector<R> values, std::vector<R> const& gradient) {
  auto moments = sara::test::new_moments(rule, values);
  for (int t = 1; t <= steps; ++t) sara::test::move(rule, {t, 0.1}, values, gradient, moments);
  return values;
}

}  // namespace

TEST_CASE_TEMPLATE("a constant gradient, against the sums of its series", R, float, double) {
  std::vector<R> const start{1, -2, R(0.5)};
  std::vector<R> const gradient{R(0.3), R(-0.7), 0};
  sara::test::tolerance const allowed{std::same_as<R, float> ? 2e-6 : 1e-13, 0};
  constexpr int n = 12;
  double const mu = 0.8;
  double travelled = 0;  // Σ_t Σ_{k<t} μᵏ
  double with_nesterov = 0;
  for (int t = 1; t <= n; ++t) {
    travelled += (1 - std::pow(mu, t)) / (1 - mu);
    with_nesterov += 1 + mu * (1 - std::pow(mu, t)) / (1 - mu);
  }
  std::vector<double> plain, momentum, nesterov, decay;
  for (std::size_t i = 0; i < start.size(); ++i) {
    double const p = start[i];
    double const g = gradient[i];
    plain.push_back(p - 0.1 * n * g);
    momentum.push_back(p - 0.1 * travelled * g);
    nesterov.push_back(p - 0.1 * with_nesterov * g);
    double const keep = 1 - 0.1 * 0.5;
    decay.push_back(std::pow(keep, n) * p - 0.1 * g * (1 - std::pow(keep, n)) / (1 - keep));
  }
  CHECK(difference(after<R>(n, {}, start, gradient), plain, allowed) == "");
  CHECK(difference(after<R>(n, {.momentum = mu}, start, gradient), momentum, allowed) == "");
  CHECK(difference(after<R>(n, {.momentum = mu, .nesterov = true}, start, gradient), nesterov, allowed) == "");
  CHECK(difference(after<R>(n, {.weight_decay = 0.5}, start, gradient), decay, allowed) == "");
}

TEST_CASE("decay enters the momentum, as in torch.optim.SGD") {
  // by hand: g₁ = 1 + 0.5·2 = 2, p₁ = 1.8;  g₂ = 1 + 0.5·1.8 = 1.9, b₂ = 0.5·2 + 1.9 = 2.9, p₂ = 1.51
  CHECK(after<double>(2, {.momentum = 0.5, .weight_decay = 0.5}, {2}, {1})[0] == doctest::Approx(1.51).epsilon(1e-14));
}

TEST_CASE("state is kept for momentum only") {
  CHECK(sara::sgd{}.moments() == 0);
  CHECK(sara::sgd{.momentum = 0.1}.moments() == 1);
}

TEST_CASE("settings outside their range") {
  auto const refused = [](sara::sgd const& rule, double rate, std::string const& got) {
    return complaint<sara::value_error>([&] { static_cast<void>(rule.kernel<float>({1, rate})); }, {"sgd", got});
  };
  CHECK(refused({.momentum = 1}, 1e-3, "got 1") == "");
  CHECK(refused({.momentum = -0.5}, 1e-3, "got -0.5") == "");
  CHECK(refused({.weight_decay = -0.25}, 1e-3, "-0.25") == "");
  CHECK(refused({}, -0.125, "-0.125") == "");
  CHECK(refused({.nesterov = true}, 1e-3, "nesterov") == "");
}
