// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/update/adamw.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/random.hpp"
#include "../support/rule.hpp"

namespace {

using sara::test::complaint;
using sara::test::difference;
using sara::test::golden;
using sara::test::move;
using sara::test::new_moments;

template <class T>
std::vector<T> row(std::vector<T> const& matrix, std::int64_t index, std::int64_t cols) {
  return {matrix.begin() + index * cols, matrix.begin() + (index + 1) * cols};
}

}  // namespace

TEST_CASE_TEMPLATE("the trajectory of torch.optim.AdamW, with zero, tiny, huge and late gradients", R, float, double) {
  constexpr bool is_float = std::same_as<R, float>;
  auto const& file = golden("adamw.safetensors");
  auto const init = file.read<float>("init");
  auto const grads = file.read<float>("grads");
  auto const expected = file.read<double>("values_f64");
  auto const rates = file.read<double>("lr");
  auto const hyper = file.read<double>("hyper");
  auto const cols = std::ssize(init);

  sara::adamw const rule{
      .beta1 = hyper[0], .beta2 = hyper[1], .epsilon = hyper[2], .weight_decay = hyper[3], .amsgrad = false};
  std::vector<R> values(init.begin(), init.end());
  auto moments = new_moments(rule, values);
  for (std::int64_t t = 1; t <= std::ssize(rates); ++t) {
    CAPTURE(t);
    auto const gradient = row(grads, t - 1, cols);
    move(rule, {t, rates[static_cast<std::size_t>(t - 1)]}, values, {gradient.begin(), gradient.end()}, moments);
    CHECK(difference(values, row(expected, t - 1, cols), {is_float ? 1e-8 : 1e-12, 0}) == "");
  }
  if constexpr (!is_float) {
    CHECK(difference(row(moments, 0, cols), file.read<double>("m_f64"), {0, 1e-12}) == "");
    CHECK(difference(row(moments, 1, cols), file.read<double>("v_f64"), {0, 1e-12}) == "");
  }
}

TEST_CASE_TEMPLATE("amsgrad divides by the largest second moment so far", R, float, double) {
  constexpr std::int64_t n = 50;
  auto const start = sara::test::uniform<R>("amsgrad values", n);
  sara::adamw const rule{.beta2 = 0.5, .weight_decay = 0.1, .amsgrad = true};
  sara::adamw const plain{.beta2 = 0.5, .weight_decay = 0.1};
  std::vector<R> values = start;
  std::vector<R> plain_values = start;
  auto moments = new_moments(rule, values);
  auto plain_moments = new_moments(plain, values);
  std::vector<double> p(start.begin(), start.end()), m(n), v(n), largest(n);
  for (int t = 1; t <= 30; ++t) {
    // ever smaller gradients: only the largest v remembers the first ones
    auto const g = sara::test::uniform<R>("amsgrad step " + std::to_string(t), n, std::pow(0.5, t));
    move(rule, {t, 1e-2}, values, g, moments);
    move(plain, {t, 1e-2}, plain_values, g, plain_moments);
    for (std::size_t i = 0; i < n; ++i) {
      double const gradient = g[i];
      p[i] -= 1e-2 * 0.1 * p[i];
      m[i] += (1 - 0.9) * (gradient - m[i]);
      v[i] = 0.5 * v[i] + 0.5 * gradient * gradient;
      largest[i] = std::max(largest[i], v[i]);
      double const unbiased_m = m[i] / (1 - std::pow(0.9, t));
      double const unbiased_v = largest[i] / (1 - std::pow(0.5, t));
      p[i] -= 1e-2 * unbiased_m / (std::sqrt(unbiased_v) + 1e-8);
    }
  }
  CHECK(difference(values, p, {std::same_as<R, float> ? 1e-5 : 1e-12, 0}) == "");
  CHECK(difference(plain_values, p, {1e-3, 0}) != "");
}

TEST_CASE("decay pulls to zero, also where the gradient is zero") {
  sara::adamw const rule{.weight_decay = 0.5};
  std::vector<double> values{2, -4, 0};
  auto moments = new_moments(rule, values);
  move(rule, {1, 0.1}, values, std::vector<double>(3), moments);
  CHECK(difference(values, std::vector<double>{1.9, -3.8, 0}, {1e-15, 0}) == "");
}

TEST_CASE("a rule works on plain columns, without a tuner") {
  // [adamw]
  sara::adamw const rule{.weight_decay = 0};
  std::vector<float> values{0.5f, -0.5f};
  std::vector<float> const gradient{3, -0.01f};
  std::vector<float> moments(static_cast<std::size_t>(rule.moments()) * values.size());

  auto const kernel = rule.kernel<float>({.t = 1, .rate = 0.1});
  for (std::size_t i = 0; i < values.size(); ++i)
    kernel(values[i], gradient[i], sara::moments_of_entry<float>{moments.data() + i, std::ssize(values)});
  // the first step of Adam goes by the rate, whatever the size of the gradient: 0.4 and -0.4
  // [/adamw]
  CHECK(difference(values, std::vector<double>{0.4, -0.4}, {1e-6, 0}) == "");
}

TEST_CASE("settings outside their range") {
  auto const refused = [](sara::adamw const& rule, double rate, std::string const& got) {
    return complaint<sara::value_error>([&] { static_cast<void>(rule.kernel<float>({1, rate})); }, {"adamw", got});
  };
  CHECK(refused({.beta1 = 1}, 1e-3, "got 1 and 0.999") == "");
  CHECK(refused({.beta2 = -0.5}, 1e-3, "got 0.9 and -0.5") == "");
  CHECK(refused({.beta1 = std::nan("")}, 1e-3, "betas") == "");
  CHECK(refused({.epsilon = -1}, 1e-3, "got -1") == "");
  CHECK(refused({.weight_decay = -0.25}, 1e-3, "-0.25") == "");
  CHECK(refused({}, -0.125, "-0.125") == "");
}
