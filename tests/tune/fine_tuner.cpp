// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <Eigen/SVD>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <sara/adapter/apply.hpp>
#include <sara/adapter/file.hpp>
#include <sara/select/ranked.hpp>
#include <sara/tensor/eigen.hpp>
#include <sara/tensor/span.hpp>
#include <sara/tensor/vector.hpp>
#include <sara/update/sgd.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/recipe.hpp"
#include "../support/reference.hpp"
#include "../support/scratch.hpp"

namespace {

using sara::test::at_positions;
using sara::test::below_threshold;
using sara::test::complaint;
using sara::test::difference;
using sara::test::same_bits;
using sara::test::uniform;

// Plain descent moves a value by rate · gradient, so most of what a tuner does can be foretold exactly.
using plain_recipe = sara::test::recipe<sara::sgd>;

auto plain_tuner(std::vector<sara::named_tensor> const& weights, plain_recipe const& r = {}) {
  return sara::test::make_tuner<float, sara::flat_index, sara::sgd>(weights, r);
}

template <sara::Scalar T>
sara::named_tensor named(std::string name, std::vector<T>& values, sara::extents const& shape) {
  return {std::move(name), sara::view(values.data(), shape)};
}

/// values - rate · gradient at the positions.
std::vector<float> moved(std::vector<float> values, std::vector<std::int64_t> const& positions,
                         std::vector<float> const& gradient, float rate) {
  for (auto const p : positions) values[static_cast<std::size_t>(p)] -= rate * gradient[static_cast<std::size_t>(p)];
  return values;
}

double loss(std::vector<float> const& weight, std::vector<float> const& x, std::vector<float> const& y) {
  double sum = 0;
  for (std::size_t b = 0; b < 16; ++b)
    for (std::size_t o = 0; o < 8; ++o) {
      double error = -static_cast<double>(y[b * 8 + o]);
      for (std::size_t i = 0; i < 4; ++i) error += static_cast<double>(weight[o * 4 + i] * x[b * 4 + i]);
      sum += error * error / 2;
    }
  return sum;
}

/// Of the loss above, at the layer's output x Wᵀ.
std::vector<float> output_gradient(std::vector<float> const& weight, std::vector<float> const& x,
                                   std::vector<float> const& y) {
  std::vector<float> dy;
  for (std::size_t b = 0; b < 16; ++b)
    for (std::size_t o = 0; o < 8; ++o) {
      float error = -y[b * 8 + o];
      for (std::size_t i = 0; i < 4; ++i) error += weight[o * 4 + i] * x[b * 4 + i];
      dy.push_back(error);
    }
  return dy;
}

/// A regularizer whose turn begins anywhere.
struct beyond {
  std::int64_t first;
  [[nodiscard]] bool applies_to(sara::extents const&) const { return true; }
  [[nodiscard]] sara::matrix_run at(std::int64_t, std::int64_t matrices) const { return {first, matrices}; }
  template <class Backend, class Matrices>
  void add(Backend const&, Matrices const&) const {}
};

}  // namespace

TEST_CASE("a layer over plain vectors learns through its small weights") {
  sara::test::scratch const folder;
  auto const file = folder / "style.safetensors";
  auto weight = uniform<float>("layer", 8 * 4, 0.4);
  auto const x = uniform<float>("x", 16 * 4);
  auto const y = uniform<float>("y", 16 * 8);
  auto const base = weight;

  // [fine_tuner]
  std::vector<std::pair<std::string, sara::shaped_span<float>>> const weights{{"layer.weight", {weight, {8, 4}}}};
  sara::fine_tuner tuner{sara::host{},
                         weights,
                         sara::below{.threshold = 0.2},
                         sara::nuclear_norm{.weight = 5e-4},
                         sara::reselect_halfway{.steps = 200},
                         sara::adamw{.weight_decay = 0},
                         sara::cosine_rate{.rate = 1e-2, .steps = 200}};

  for (int step = 0; step < 200; ++step) {
    std::vector<float> const dy = output_gradient(weight, x, y);  // your engine's backward pass
    tuner["layer.weight"].accumulate(sara::view(dy.data(), {16, 8}), sara::view(x.data(), {16, 4}));
    tuner.step();
  }
  sara::save(tuner.adapter(), file);
  // [/fine_tuner]
  CHECK(loss(weight, x, y) < 0.95 * loss(base, x, y));
  auto const positions = below_threshold(base, 0.2);
  auto const learned = sara::load_adapter(file);
  CHECK(learned.tensors.at("layer.weight").positions == positions);
  auto unselected = base;
  for (auto const p : positions) unselected[static_cast<std::size_t>(p)] = weight[static_cast<std::size_t>(p)];
  CHECK(same_bits(unselected, weight));
  CHECK(tuner.learning() < tuner.selected());
  CHECK(tuner.selected() == std::ssize(positions));
}

TEST_CASE("gradients add up until the step, over any number of backward passes") {
  auto w = uniform<float>("w", 6 * 5, 0.1);
  auto const base = w;
  auto const positions = below_threshold(w, 0.08);
  auto tuner = plain_tuner({named("w", w, {6, 5})}, {.rate = {.rate = 0.5, .floor = 1}});
  std::vector<double> expected(30);
  for (std::string const pass : {"first", "second", "third"}) {
    auto const dy = uniform<float>("dy " + pass, 4 * 6);
    auto const x = uniform<float>("x " + pass, 4 * 5);
    auto const dy_view = sara::view(dy.data(), {4, 6});
    auto const x_view = sara::view(x.data(), {4, 5});
    tuner["w"].accumulate(dy_view, x_view);
    auto const dense = sara::test::linear_gradient(dy_view, x_view);
    for (std::size_t i = 0; i < dense.size(); ++i) expected[i] += dense[i];
  }
  CHECK(difference(tuner.gradient("w"), at_positions(expected, positions), {1e-6, 0}) == "");
  auto const gradient = tuner.gradient("w");
  tuner.step();
  std::vector<float> dense(30);
  for (std::size_t j = 0; j < positions.size(); ++j) dense[static_cast<std::size_t>(positions[j])] = gradient[j];
  CHECK(difference(w, moved(base, positions, dense, 0.5f), {1e-7, 0}) == "");
  CHECK(tuner.gradient("w") == std::vector<float>(positions.size()));  // forgotten
}

TEST_CASE("zero_gradient forgets: the next step moves nothing, decay included") {
  auto w = uniform<float>("w", 30, 0.1);
  auto const base = w;
  auto tuner = plain_tuner({named("w", w, {6, 5})}, {.rule = {.momentum = 0.9, .weight_decay = 0.1}});
  tuner["w"].accumulate(uniform<float>("g", 30));
  tuner.zero_gradient();
  CHECK(tuner.step().gradient_norm() == 0);
  CHECK(same_bits(w, base));
}

TEST_CASE("a step whose gradient is not finite is left out") {
  auto a = uniform<float>("a", 30, 0.1);
  auto b = uniform<float>("b", 7, 0.1);
  auto const base = a;
  auto tuner = plain_tuner({named("a", a, {6, 5}), named("b", b, {7})});
  auto g = uniform<float>("g", 30);
  tuner["a"].accumulate(g);
  double squares = 0;
  for (auto const p : below_threshold(a, 0.08)) squares += std::pow(g[static_cast<std::size_t>(p)], 2);
  CHECK(tuner.gradient_norm() == doctest::Approx(std::sqrt(squares)));
  g[static_cast<std::size_t>(below_threshold(a, 0.08)[3])] = HUGE_VALF;
  tuner["a"].accumulate(g);
  // [skip]
  if (std::isfinite(tuner.gradient_norm()))
    tuner.step();
  else
    tuner.zero_gradient();
  // [/skip]
  CHECK(same_bits(a, base));
  CHECK(tuner.steps() == 0);
  CHECK(tuner.gradient_norm() == 0);
}

TEST_CASE("a rate that the schedule gives and that is none changes nothing") {
  struct lost {
    std::optional<double> rate = 0.1;
    double factor(std::int64_t step) const { return step == 1 ? std::nan("") : 1; }
  };
  auto a = uniform<float>("a", 64 * 64, 0.1);
  sara::fine_tuner tuner{sara::host{1},
                         std::vector{named("a", a, {64, 64})},
                         sara::below{.threshold = 0.05},
                         sara::nuclear_norm{.weight = 1e-2},
                         sara::sgd{},
                         lost{}};
  auto const g = uniform<float>("g", 64 * 64);
  tuner["a"].accumulate(g);
  tuner.step();
  tuner["a"].accumulate(g);
  auto const before = a;
  auto const gradient = tuner.gradient("a");
  CHECK(complaint<sara::value_error>([&] { tuner.step(); }, {"finite learning rate", "nan"}) == "");
  CHECK(complaint<sara::value_error>([&] { tuner.update_in_backward("a"); }, {"finite learning rate", "nan"}) == "");
  CHECK(same_bits(a, before));
  CHECK(tuner.gradient("a") == gradient);
  CHECK(tuner.steps() == 1);
}

TEST_CASE("a regularizer's turn is a run of the matrices there are") {
  auto a = uniform<float>("a", 30, 0.1);
  for (std::int64_t const first : {-1, 1}) {
    sara::fine_tuner tuner{sara::host{1}, std::vector{named("a", a, {6, 5})}, sara::below{.threshold = 0.02},
                           beyond{first}};
    CHECK(complaint<sara::value_error>([&] { tuner.step(); },
                                       {"among 1 matrices", "1 from " + std::to_string(first)}) == "");
  }
}

TEST_CASE("clipping is by the norm of all that learns, over all tensors") {
  auto a = uniform<float>("a", 40, 0.1);
  auto b = uniform<float>("b", 7, 0.1);
  auto const base_a = a;
  auto const base_b = b;
  auto const g_a = uniform<float>("g_a", 40);
  auto const g_b = uniform<float>("g_b", 7);
  double squares = 0;  // of selected entries alone
  for (auto const p : below_threshold(a, 0.08)) squares += std::pow(g_a[static_cast<std::size_t>(p)], 2);
  for (auto const p : below_threshold(b, 0.08)) squares += std::pow(g_b[static_cast<std::size_t>(p)], 2);
  for (double const share : {0.25, 2.0}) {
    a = base_a;
    b = base_b;
    auto tuner = plain_tuner({named("a", a, {8, 5}), named("b", b, {7})}, {.clip = share * std::sqrt(squares)});
    tuner["a"].accumulate(g_a);
    tuner["b"].accumulate(g_b);
    CHECK(tuner.step().gradient_norm() == doctest::Approx(std::sqrt(squares)));
    auto const rate = static_cast<float>(0.01 * std::min(1.0, share));
    CHECK(difference(a, moved(base_a, below_threshold(base_a, 0.08), g_a, rate), {1e-8, 0}) == "");
    CHECK(difference(b, moved(base_b, below_threshold(base_b, 0.08), g_b, rate), {1e-8, 0}) == "");
  }
}

TEST_CASE("updates in the backward pass give the bits of updates in the step") {
  auto const run = [](bool in_backward, bool lent, bool reselected) {
    auto a = uniform<float>("a", 20 * 9, 0.1);
    auto b = uniform<float>("b", 30 * 7, 0.1);
    auto c = uniform<float>("c", 12, 0.1);
    auto tuner = sara::test::make_tuner<float, sara::flat_index, sara::adamw>(
        {named("a", a, {20, 9}), named("b", b, {30, 7}), named("c", c, {3, 4})},
        {.lambda = 0.05,
         .reselect = reselected ? std::vector<std::int64_t>{2} : std::vector<std::int64_t>{},
         .rate = {.rate = 0.02, .steps = 4},
         .in_backward = lent});
    std::vector<double> reports;
    for (int t = 0; t < 4; ++t) {
      auto const seed = std::to_string(t);
      auto const backward = [&](char const* name, std::int64_t rows, std::int64_t cols) {
        auto const dy_values = uniform<float>("dy" + seed + name, 5 * rows);
        auto const x_values = uniform<float>("x" + seed + name, 5 * cols);
        auto const dy = sara::view(dy_values.data(), {5, rows});
        auto const x = sara::view(x_values.data(), {5, cols});
        tuner[name].accumulate(dy, x);
        if (in_backward) {
          // [update_in_backward]
          tuner[name].accumulate(dy, x);
          tuner.update_in_backward(name);
          // [/update_in_backward]
        } else {
          tuner[name].accumulate(dy, x);
        }
      };
      backward("c", 3, 4);
      if (t != 1) backward("b", 30, 7);  // at 1 it is the regularizer's alone
      if (t != 3) backward("a", 20, 9);
      auto const report = tuner.step();
      for (auto const sum : {report.regularizer_loss(), report.gradient_norm()}) reports.push_back(sum);
      reports.push_back(static_cast<double>(report.at_or_above()));
    }
    for (auto const* other : {&b, &c}) a.insert(a.end(), other->begin(), other->end());
    return std::pair{a, reports};
  };
  for (bool const reselected : {false, true}) {
    auto const [expected, expected_reports] = run(false, false, reselected);
    for (auto const& [update, lend] : {std::pair{true, false}, {true, true}, {false, true}}) {
      bool const in_backward = update, lent = lend;  // CAPTURE is a lambda
      CAPTURE(in_backward);
      CAPTURE(lent);
      auto const [weights, reports] = run(in_backward, lent, reselected);
      CHECK(same_bits(weights, expected));
      CHECK(difference(reports, expected_reports, {1e-12, 0}) == "");
    }
  }
}

TEST_CASE("a tuner that updates in the backward pass holds the gradient of its largest tensor, not of all") {
  auto a = uniform<float>("a", 400, 0.1);
  auto b = uniform<float>("b", 90, 0.1);
  auto const g_a = uniform<float>("g_a", 400), g_b = uniform<float>("g_b", 90);
  std::vector<sara::named_tensor> const weights{named("a", a, {40, 10}), named("b", b, {90})};
  auto tuner = plain_tuner(weights, {.in_backward = true});
  CHECK(tuner.updates_in_backward());
  auto const of_a = std::ssize(below_threshold(a, 0.08)), of_b = std::ssize(below_threshold(b, 0.08));
  CHECK(tuner.memory().columns == 0);  // a rule without moments
  CHECK(tuner.gradient("b") == std::vector<float>(below_threshold(b, 0.08).size()));

  // One after the other, then two at a time, as where a layer is used twice.
  std::vector<std::int64_t> held;
  for (auto const* name : {"b", "a", "b"}) {
    tuner[name].accumulate(*name == 'a' ? g_a : g_b);
    held.push_back(tuner.memory().columns);
    tuner.zero_gradient();
  }
  CHECK(held == std::vector<std::int64_t>{of_b * 4, of_a * 4, of_a * 4});
  tuner["a"].accumulate(g_a);
  tuner["b"].accumulate(g_b);
  CHECK(tuner.memory().columns == (of_a + of_b) * 4);
  CHECK(tuner.gradient("a").size() == below_threshold(a, 0.08).size());
  CHECK(tuner.gradient_norm() > 0);
  tuner.zero_gradient();
  CHECK(tuner.gradient_norm() == 0);
  auto const base_a = a, base_b = b;
  for (auto const* name : {"a", "b"}) {
    tuner[name].accumulate(*name == 'a' ? g_a : g_b);
    tuner.update_in_backward(name);
  }
  tuner.step();
  CHECK(tuner.memory().columns == (of_a + of_b) * 4);
  CHECK(difference(a, moved(base_a, below_threshold(base_a, 0.08), g_a, 0.01F), {1e-8, 0}) == "");
  CHECK(difference(b, moved(base_b, below_threshold(base_b, 0.08), g_b, 0.01F), {1e-8, 0}) == "");

  // A gradient in the middle goes into a state and comes back.
  sara::test::scratch const folder;
  auto const middle_a = a, middle_b = b;
  tuner["b"].accumulate(g_b);
  tuner.save_state(folder / "state");
  tuner.step();
  auto const expected = b;
  a = base_a;
  b = base_b;
  auto other = plain_tuner(weights, {.in_backward = true});
  other.load_state(folder / "state");
  CHECK(same_bits(a, middle_a));
  CHECK(same_bits(b, middle_b));
  CHECK(other.memory().columns == of_b * 4);
  other.step();
  CHECK(same_bits(b, expected));
  CHECK(same_bits(a, middle_a));
}

TEST_CASE("what does not go together with an update in the backward pass") {
  auto a = uniform<float>("a", 40, 0.1);
  auto const g = uniform<float>("g", 40);
  auto tuner = plain_tuner({named("a", a, {8, 5})});
  auto const base = a;
  tuner.update_in_backward("a");  // without gradient
  CHECK(same_bits(a, base));
  tuner["a"].accumulate(g);
  tuner.update_in_backward("a");
  auto const once = moved(base, below_threshold(base, 0.08), g, 0.01F);
  CHECK(difference(a, once, {1e-8, 0}) == "");
  CHECK(complaint<sara::value_error>([&] { tuner["a"].accumulate(g); }, {"'a'", "step()"}) == "");
  sara::test::scratch const folder;
  CHECK(complaint<sara::value_error>([&] { tuner.save_state(folder / "state"); }, {"'a'", "step()"}) == "");
  tuner.update_in_backward("a");
  tuner.zero_gradient();
  tuner.step();
  CHECK(difference(a, once, {1e-8, 0}) == "");
  tuner["a"].accumulate(g);
  tuner.step();
  CHECK(difference(a, moved(once, below_threshold(base, 0.08), g, 0.01F), {1e-8, 0}) == "");
  CHECK(complaint<sara::name_error>([&] { tuner.update_in_backward("b"); }, {"'b'"}) == "");

  auto clipped = plain_tuner({named("a", a, {8, 5})}, {.clip = 1});
  CHECK(complaint<sara::value_error>([&] { clipped.update_in_backward("a"); }, {"clip_norm", "'a'"}) == "");
  auto const clips = [&] { plain_tuner({named("a", a, {8, 5})}, {.clip = 1, .in_backward = true}); };
  CHECK(complaint<sara::value_error>(clips, {"update_in_backward", "clip_norm"}) == "");
  auto lends = plain_tuner({named("a", a, {8, 5})}, {.in_backward = true});
  CHECK(complaint<sara::value_error>([&] { lends["a"].expect_gradient(); }, {"update_in_backward"}) == "");
}

TEST_CASE("excluded tensors stay, whatever they are given") {
  auto a = uniform<float>("a", 40, 0.1);
  auto b = uniform<float>("b", 8, 0.1);
  auto const base_b = b;
  auto tuner =
      plain_tuner({named("a.weight", a, {8, 5}), named("a.bias", b, {8})}, {.filter = {.exclude = {"*.bias"}}});
  CHECK(tuner["a.weight"].learns());
  CHECK(!tuner["a.bias"].learns());
  tuner["a.weight"].accumulate(uniform<float>("g", 40));
  tuner["a.bias"].accumulate(uniform<float>("g", 8));
  tuner.step();
  CHECK(same_bits(b, base_b));
  CHECK(tuner.gradient("a.bias").empty());
  REQUIRE(tuner.tensors().size() == 1);
  CHECK(tuner.tensors()[0].name == "a.weight");
  CHECK(!tuner.adapter().tensors.contains("a.bias"));
}

TEST_CASE("a tensor without gradient stays as it is, moments too") {
  auto a = uniform<float>("a", 12, 0.05);
  auto b = uniform<float>("b", 12, 0.05);
  std::vector<float> const g(12, 1.0f);
  auto tuner =
      plain_tuner({named("a", a, {12}), named("b", b, {12})}, {.rule = {.momentum = 0.5, .weight_decay = 0.1}});
  tuner["a"].accumulate(g);
  tuner["b"].accumulate(g);
  tuner.step();
  auto const after_one = b;
  for (int step = 0; step < 3; ++step) {
    tuner["a"].accumulate(g);
    tuner.step();
    CHECK(same_bits(b, after_one));
  }
  tuner["b"].accumulate(std::vector<float>(12));  // a zero gradient is one: the momentum of the first step goes on
  auto const first_momentum = [&](float start) { return 1 + 0.1f * start; };
  auto const starts = uniform<float>("b", 12, 0.05);
  tuner.step();
  for (std::size_t i = 0; i < b.size(); ++i)
    CHECK(b[i] == doctest::Approx(after_one[i] - 0.01f * (0.5f * first_momentum(starts[i]) + 0.1f * after_one[i])));
}

TEST_CASE("a frozen tensor takes no gradient and no low-rank loss until it is thawed") {
  auto a = uniform<float>("a", 24, 0.1);
  auto b = uniform<float>("b", 24, 0.1);
  std::vector<sara::named_tensor> const weights{named("a", a, {6, 4}), named("b", b, {6, 4})};
  auto tuner = plain_tuner(weights, {.threshold = 0.05, .lambda = 0.1, .rate = {.rate = 0.1, .floor = 1}});
  auto const gradient = uniform<float>("gradient", 24);
  auto const pass = [&] {
    for (auto const* name : {"a", "b"}) tuner[name].accumulate(sara::view(gradient.data(), {6, 4}));
    return tuner.step();
  };
  tuner.freeze("a");
  CHECK_FALSE(tuner["a"].learns());
  auto before = std::pair{a, b};
  auto const alone = pass().regularizer_loss();
  CHECK(same_bits(a, before.first));
  CHECK_FALSE(same_bits(b, before.second));
  tuner.freeze("a", false);
  before = {a, b};
  CHECK(pass().regularizer_loss() > alone * 1.2);
  CHECK_FALSE(same_bits(a, before.first));
  CHECK(complaint<sara::name_error>([&] { tuner.freeze("c"); }, {"'c'"}) == "");
}

TEST_CASE("two names for one memory are one tensor") {
  auto w = uniform<float>("tied", 20, 0.05);
  auto const base = w;
  auto const g = uniform<float>("g", 20);
  auto tuner = plain_tuner({named("embedding", w, {4, 5}), named("head", w, {4, 5})}, {.rule = {.weight_decay = 0.5}});
  CHECK(tuner.tensors().size() == 1);
  CHECK(tuner.learning() == 20);
  tuner["embedding"].accumulate(g);
  tuner["head"].accumulate(g);
  CHECK(difference(tuner.gradient("head"), tuner.gradient("embedding"), {}) == "");
  tuner.step();
  for (std::size_t i = 0; i < w.size(); ++i)
    CHECK(w[i] == doctest::Approx(base[i] - 0.01f * (2 * g[i] + 0.5f * base[i])));  // decayed once
  auto const learned = tuner.adapter();
  CHECK(learned.tensors.size() == 1);
  CHECK(learned.tensors.contains("embedding"));
}

TEST_CASE_TEMPLATE("16-bit weights take updates too small for them, reselected or not", T, sara::bfloat16,
                   sara::float16) {
  std::vector<T> w(10, T{0.05f});
  auto const base = w;
  float const ulp = std::abs(static_cast<float>(T{0.05f}) -
                             std::bit_cast<T>(static_cast<std::uint16_t>(base[0].bits + 1)).operator float());
  std::vector<float> const g(10, -1.0f);
  auto tuner = plain_tuner({named("w", w, {2, 5})}, {.reselect = {4, 8}, .rate = {.rate = 0.1 * ulp, .floor = 1}});
  for (int step = 1; step <= 20; ++step) {
    CAPTURE(step);
    tuner["w"].accumulate(g);
    tuner.step();
    float const exact = sara::widen(base[0]) + 0.1f * ulp * static_cast<float>(step);
    CHECK(std::abs(sara::widen(w[0]) - exact) <= 0.51f * ulp);
    if (step <= 4) CHECK(same_bits(w, base));  // each alone rounds away
  }
  CHECK(sara::widen(w[0]) == sara::widen(base[0]) + 2 * ulp);
  CHECK(tuner.learning() == 10);
}

TEST_CASE("what a report says") {
  std::vector<float> w{0.01f, -0.02f, 0.07f, -0.079f, 0.3f, 0.0f};
  auto tuner =
      plain_tuner({named("w", w, {2, 3})}, {.lambda = 0.5, .reselect = {2}, .rate = {.rate = 0.01, .steps = 4}});
  tuner["w"].accumulate(std::vector<float>{0, 0, -2, 2, 9, 0});
  auto const first = tuner.step();
  CHECK(first.step == 1);
  CHECK(first.rate == 0.01);
  CHECK(!first.reselected);
  CHECK(first.learning == 5);
  CHECK(first.at_or_above() == 2);  // 0.07 + 0.02 and -0.079 - 0.02, less what the norm pulls
  Eigen::MatrixXd masked(2, 3);
  masked << 0.01, -0.02, 0.07, -0.079, 0, 0;
  Eigen::BDCSVD<Eigen::MatrixXd> const svd{masked, Eigen::ComputeThinU | Eigen::ComputeThinV};
  CHECK(first.regularizer_loss() == doctest::Approx(0.5 * svd.singularValues().sum()).epsilon(1e-6));
  Eigen::MatrixXd gradient = 0.5 * svd.matrixU() * svd.matrixV().transpose();
  gradient(1, 1) = 0;  // 0.3 is not of M
  gradient(0, 2) -= 2;
  gradient(1, 0) += 2;
  CHECK(first.gradient_norm() == doctest::Approx(gradient.norm()).epsilon(1e-6));

  auto const second = tuner.step();
  CHECK(second.step == 2);
  CHECK(second.rate == doctest::Approx(0.01 * 0.5 * (1 + std::cos(std::acos(-1.0) / 4))));
  CHECK(second.reselected);
  CHECK(second.learning == 3);
  CHECK(second.at_or_above() == 2);  // of M as it was in this step
  CHECK(tuner.steps() == 2);
  auto const third = tuner.step();
  CHECK(third.at_or_above() == 0);
  CHECK(complaint<sara::value_error>([&] { static_cast<void>(second.gradient_norm()); }, {"before step 3"}) == "");
  tuner["w"].accumulate(std::vector<float>{0, 0, -2, 2, 9, 0});
  tuner.update_in_backward("w");
  CHECK(complaint<sara::value_error>([&] { static_cast<void>(third.at_or_above()); }, {"before step 4"}) == "");
  CHECK(w[4] == 0.3f);
}

TEST_CASE("at the switch no step is lost, the rate goes on, moments start anew, and what is frozen keeps its value") {
  // constant gradients: with momentum ½ the three first steps go 1, 1½, 1¾ times rate · g, and then 1, 1½ again
  std::vector<float> w{0, 0, 0.07f, 0.5f};
  std::vector<float> const g{1, -1, -1, 1};
  auto tuner = plain_tuner({named("w", w, {4})}, {.reselect = {3}, .rule = {.momentum = 0.5}});
  auto const step = [&] {
    tuner["w"].accumulate(g);
    return tuner.step();
  };
  for (int t = 1; t <= 3; ++t) CHECK(step().reselected == (t == 3));
  CHECK(difference(w, std::vector<double>{-0.0425, 0.0425, 0.1125, 0.5}, {1e-7, 0}) == "");
  CHECK(tuner.learning() == 2);
  CHECK(tuner.selected() == 3);
  auto const frozen = w[2];

  for (int t = 4; t <= 5; ++t) {
    auto const report = step();
    CHECK(report.step == t);
    CHECK(report.rate == 0.01);
  }
  CHECK(difference(w, std::vector<double>{-0.0425 - 0.025, 0.0425 + 0.025, 0.1125, 0.5}, {1e-7, 0}) == "");
  CHECK(w[2] == frozen);
  auto const learned = tuner.adapter();
  CHECK(learned.tensors.at("w").positions == std::vector<std::int64_t>{0, 1, 2});
  CHECK(std::get<std::vector<float>>(learned.tensors.at("w").delta)[2] == frozen - 0.07f);
  CHECK(tuner.tensors()[0].selected == 3);
  CHECK(tuner.tensors()[0].learning == 2);
}

TEST_CASE("a second reselection narrows the first, down to nothing") {
  std::vector<float> w{0, 0, 0};
  std::vector<float> const g{-5, -2.5f, -1.25f};
  auto tuner = plain_tuner({named("w", w, {3})}, {.reselect = {2, 4, 8}});
  std::vector<std::int64_t> learning;
  for (int t = 1; t <= 9; ++t) {
    tuner["w"].accumulate(g);
    learning.push_back(tuner.step().learning);
  }
  CHECK(learning == std::vector<std::int64_t>{3, 2, 2, 1, 1, 1, 1, 0, 0});
  CHECK(difference(w, std::vector<double>{0.1, 0.1, 0.1}, {1e-6, 0}) == "");
  CHECK(!tuner["w"].learns());
}

TEST_CASE("the same bits for any number of threads") {
  auto const base = uniform<float>("many", 300 * 200, 0.1);
  auto const g = uniform<float>("g", 300 * 200);
  std::vector<float> expected;
  double expected_norm = 0;
  for (int const threads : {1, 2, 3}) {
    CAPTURE(threads);
    auto w = base;
    auto small = uniform<float>("small", 20 * 9, 0.1);
    plain_recipe const r{
        .lambda = 0.1, .min_side = 5, .reselect = {2}, .rule = {.momentum = 0.9}, .clip = 1, .threads = threads};
    auto tuner = plain_tuner({named("w", w, {60'000}), named("small", small, {20, 9})}, r);
    double norm = 0;
    for (int t = 0; t < 4; ++t) {
      tuner["w"].accumulate(g);
      auto const dy = uniform<float>("dy", 50 * 20);
      auto const x = uniform<float>("x", 50 * 9);
      tuner["small"].accumulate(sara::view(dy.data(), {50, 20}), sara::view(x.data(), {50, 9}));
      norm = tuner.step().gradient_norm();
    }
    w.insert(w.end(), small.begin(), small.end());
    if (threads == 1) {
      expected = w;
      expected_norm = norm;
    }
    CHECK(same_bits(w, expected));
    CHECK(norm == expected_norm);
  }
}

TEST_CASE("NaN and infinite weights are reported and left alone") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  float const infinity = std::numeric_limits<float>::infinity();
  std::vector<float> w{0.01f, nan, -infinity, 0.02f, infinity};
  auto const base = w;
  auto tuner = plain_tuner({named("w", w, {5})});
  auto const about = tuner.tensors()[0];
  CHECK(about.not_finite == 3);
  CHECK(about.selected == 2);
  CHECK(*about.threshold == doctest::Approx(0.08));
  CHECK(about.shape == sara::extents{5});
  CHECK(about.type == sara::dtype::float32);
  tuner["w"].accumulate(std::vector<float>(5, 1.0f));
  tuner.step();
  for (std::size_t i : {1u, 2u, 4u}) CHECK(std::bit_cast<std::uint32_t>(w[i]) == std::bit_cast<std::uint32_t>(base[i]));
  CHECK(w[0] == doctest::Approx(0));
}

TEST_CASE("nothing selected, everything selected, no tensors at all, tensors without elements") {
  auto w = uniform<float>("w", 30, 0.1);
  auto const base = w;
  std::vector<float> empty;
  std::vector<float> const g(30, 1.0f);
  SUBCASE("nothing") {
    auto tuner = plain_tuner({named("w", w, {6, 5})}, {.threshold = 0, .lambda = 1, .reselect = {1}});
    CHECK(!tuner["w"].learns());
    tuner["w"].accumulate(g);
    auto const report = tuner.step();
    CHECK(report.learning == 0);
    CHECK(report.gradient_norm() == 0);
    CHECK(report.regularizer_loss() == 0);
    CHECK(same_bits(w, base));
    CHECK(tuner.adapter().tensors.empty());
    CHECK(tuner.memory().total() == 0);
  }
  SUBCASE("everything") {
    auto tuner = plain_tuner({named("w", w, {6, 5})}, {.threshold = std::numeric_limits<double>::infinity()});
    CHECK(tuner.learning() == 30);
    tuner["w"].accumulate(g);
    CHECK(tuner.step().at_or_above() == 0);
    CHECK(difference(w, moved(base, below_threshold(base, 1), g, 0.01f), {1e-8, 0}) == "");
  }
  SUBCASE("no tensors") {
    auto tuner = plain_tuner({});
    CHECK(tuner.step().learning == 0);
    CHECK(tuner.adapter().tensors.empty());
  }
  SUBCASE("no elements") {
    auto tuner = plain_tuner({named("none", empty, {0, 4}), named("w", w, {6, 5}), named("nothing", empty, {0})},
                             {.lambda = 1, .reselect = {1}});
    CHECK(tuner.tensors().size() == 3);
    tuner["w"].accumulate(g);
    tuner.step();
    CHECK(!same_bits(w, base));
  }
}

TEST_CASE("positions are held by rows unless asked otherwise") {
  auto w = uniform<float>("w", 40 * 30, 0.1);
  sara::fine_tuner const tuner{sara::host{1}, std::vector{named("w", w, {40, 30})}, sara::below{.threshold = 0.08},
                               sara::constant_rate{.rate = 0.1}};
  CHECK(tuner.memory().positions == 2 * std::ssize(below_threshold(w, 0.08)) + 8 * 41);
}

TEST_CASE("memory is what the formulas say") {
  auto f32 = uniform<float>("f32", 40 * 30, 0.1);
  auto bf16 = uniform<sara::bfloat16>("bf16", 25 * 20, 0.1);
  auto tuner = plain_tuner({named("f32", f32, {40, 30}), named("bf16", bf16, {25, 20})},
                           {.lambda = 0.1, .reselect = {1}, .rule = {.momentum = 0.5}});
  auto const n32 = std::ssize(below_threshold(f32, 0.08));
  auto const n16 = std::ssize(below_threshold(bf16, sara::widen(sara::bfloat16{0.08f})));
  auto memory = tuner.memory();
  CHECK(memory.positions == 4 * (n32 + n16));            // flat_index
  CHECK(memory.columns == 4 * (2 * (n32 + n16) + n16));  // gradient and one moment of all, masters of bf16
  CHECK(memory.originals == 4 * (n32 + n16));
  CHECK(memory.plans == 0);
  CHECK(memory.total() == memory.positions + memory.columns + memory.originals);

  tuner["f32"].accumulate(uniform<float>("g", 40 * 30));
  auto const left = tuner.step().learning;
  auto const left16 = tuner.tensors()[1].learning;
  CHECK(left < n32 + n16);
  memory = tuner.memory();
  CHECK(memory.positions == 4 * (n32 + n16 + left));
  CHECK(memory.columns == 4 * (2 * left + left16));
  CHECK(memory.originals == 4 * (n32 + n16));

  CHECK(memory.plans == 0);  // dense gradients need none
  auto const dy = uniform<float>("dy", 2 * 40), x = uniform<float>("x", 2 * 30);
  tuner["f32"].accumulate(sara::view(dy.data(), {2, 40}), sara::view(x.data(), {2, 30}));
  memory = tuner.memory();
  CHECK(memory.plans > 0);
  CHECK(memory.total() == memory.positions + memory.plans + memory.columns + memory.originals);
}

TEST_CASE("a matrix by columns is trained and stored as one by rows") {
  using by_rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  by_rows rows = Eigen::Map<by_rows const>(uniform<float>("w", 6 * 5, 0.1).data(), 6, 5);
  Eigen::MatrixXf columns = rows;
  by_rows const dy = by_rows::Random(3, 6);
  by_rows const x = by_rows::Random(3, 5);
  std::vector<sara::adapter> learned;
  auto const train = [&](auto& weight, auto const& gradient, auto const& input) {
    auto tuner = plain_tuner({{"w", sara::view(weight)}}, {.lambda = 0.1});
    tuner["w"].accumulate(gradient, input);
    tuner.step();
    learned.push_back(tuner.adapter());
  };
  train(rows, dy, x);
  train(columns, Eigen::MatrixXf(dy), Eigen::MatrixXf(x));
  CHECK(columns == rows);
  auto const& a = learned[0].tensors.at("w");
  auto const& b = learned[1].tensors.at("w");
  CHECK(a.positions == b.positions);
  CHECK(a.delta == b.delta);
  CHECK(a.base_hash == b.base_hash);
}

TEST_CASE("the type of computation follows the weights' type where that is known") {
  std::vector<std::pair<std::string, std::vector<double>>> doubles{{"w", uniform<double>("w", 9, 1e-3)}};
  sara::fine_tuner tuner{sara::host{1}, doubles};
  static_assert(std::is_same_v<decltype(tuner.gradient("w")), std::vector<double>>);
  CHECK(tuner.learning() == 9);
  CHECK(tuner.base_rate() == doctest::Approx(sara::rate_for_threshold(2e-3)));
}

TEST_CASE("a tuner can be moved") {
  auto w = uniform<float>("w", 20, 0.05);
  auto const base = w;
  auto tuner = plain_tuner({named("w", w, {4, 5})});
  tuner["w"].accumulate(std::vector<float>(20, 1.0f));
  auto other = std::move(tuner);
  other.step();
  CHECK(difference(w, moved(base, below_threshold(base, 0.08), std::vector<float>(20, 1.0f), 0.01f), {1e-8, 0}) == "");
}

TEST_CASE("names that do not fit") {
  auto w = uniform<float>("w", 20, 0.05);
  auto v = uniform<float>("v", 20, 0.05);
  auto tuner = plain_tuner({named("w", w, {4, 5})});
  CHECK(complaint<sara::name_error>([&] { static_cast<void>(tuner["weight"]); }, {"got 'weight'"}) == "");
  CHECK(complaint<sara::name_error>([&] { static_cast<void>(tuner.gradient("weight")); }, {"got 'weight'"}) == "");
  CHECK(complaint<sara::name_error>(
            [&] {
              plain_tuner({named("w", w, {20}), named("w", v, {20})});
            },
            {"'w' twice"}) == "");
  CHECK(complaint<sara::shape_error>(
            [&] {
              plain_tuner({named("w", w, {20}), named("tied", w, {4, 5})});
            },
            {"'tied' and 'w' share memory", "[4, 5]", "[20]"}) == "");
  sara::named_tensor const transposed{"transposed", sara::tensor_view{w.data(), {4, 4}, {1, 4}}};
  CHECK(complaint<sara::shape_error>(
            [&] {
              plain_tuner({named("w", w, {4, 4}), transposed});
            },
            {"'transposed' and 'w' share memory", "strides [1, 4]", "strides [4, 1]"}) == "");
  sara::named_tensor const halves{"halves", sara::view(reinterpret_cast<sara::bfloat16*>(w.data()), {20})};
  CHECK(complaint<sara::shape_error>(
            [&] {
              plain_tuner({named("w", w, {20}), halves});
            },
            {"'halves' and 'w' share memory", "bfloat16 [20]", "float32 [20]"}) == "");
  for (auto const* left_out : {"w", "tied"}) {
    std::vector<sara::named_tensor> const both{named("w", w, {20}), named("tied", w, {20})};
    CHECK(complaint<sara::value_error>([&] { plain_tuner(both, {.filter = {.exclude = {left_out}}}); },
                                       {"'tied' and 'w' share memory", "take both or neither",
                                        *left_out == 'w' ? "got 'tied' alone" : "got 'w' alone"}) == "");
  }
  std::vector<sara::named_tensor> const left_out{named("v", v, {20}), named("w", w, {20}), named("tied", w, {4, 5})};
  CHECK(plain_tuner(left_out, {.filter = {.include = {"v"}}}).tensors().size() == 1);
  CHECK(complaint<sara::name_error>([&] { plain_tuner({named("w", w, {20})}, {.filter = {.include = {"unet.*"}}}); },
                                    {"a name that the filter takes", "'w'"}) == "");
}

TEST_CASE("float64 weights are not trained in float32 unasked") {
  std::vector<double> w(4);
  CHECK(complaint<sara::dtype_error>([&] { plain_tuner({named("w", w, {4})}); },
                                     {"'w' is float64", "sara::compute_in<double>{}"}) == "");
}

TEST_CASE("memory of another device") {
  std::vector<float> w(4);
  CHECK(complaint<sara::memory_error>(
            [&] {
              plain_tuner({{"w", sara::view(w.data(), {4}, sara::memory::cuda)}});
            },
            {"w: expected a tensor in host memory", "CUDA"}) == "");
}

TEST_CASE("settings that contradict each other are refused at once, not at the switch") {
  auto w = uniform<float>("w", 20, 0.05);
  std::vector<sara::named_tensor> const weights{named("w", w, {4, 5})};
  auto const refused = [&](auto const&... policies) {
    return complaint<sara::value_error>([&] { sara::fine_tuner{sara::host{1}, weights, policies...}; });
  };
  // not by magnitude: no rate follows from the threshold, and nothing says what is small
  CHECK(refused(sara::largest{.count = 3}) == "");
  CHECK(refused(sara::largest{.count = 3}, sara::constant_rate{.rate = 1e-3}) == "expected an exception, got none");
  CHECK(refused(sara::largest{.count = 3}, sara::constant_rate{.rate = 1e-3}, sara::reselect_halfway{}) == "");
  CHECK(refused(sara::largest{.count = 0}, sara::constant_rate{.rate = 1e-3}, sara::reselect_halfway{}) == "");
  CHECK(refused(sara::largest{.count = 3}, sara::constant_rate{.rate = 1e-3},
                sara::reselect_halfway{.threshold = 1e-3}) == "expected an exception, got none");

  CHECK(complaint<sara::value_error>([&] { plain_tuner(weights, {.threshold = -1}); }, {"got -1"}) == "");
  CHECK(complaint<sara::value_error>([&] { plain_tuner(weights, {.rule = {.momentum = 2}}); }, {"sgd"}) == "");
  CHECK(complaint<sara::value_error>([&] { plain_tuner(weights, {.rate = {.rate = -1, .floor = 1}}); }, {"rate"}) ==
        "");
  CHECK(complaint<sara::value_error>([&] { plain_tuner(weights, {.rate = {.rate = 1e-3, .steps = 5, .warmup = 5}}); },
                                     {"steps"}) == "");
  CHECK(refused(sara::nuclear_norm{.weight = -1}) == "");
  CHECK(refused(sara::reselect_halfway{.threshold = -1}) == "");
  CHECK(refused(sara::reselect_every{.steps = -1}) == "");
  CHECK(refused(sara::constant_rate{.rate = HUGE_VAL}) == "");
  CHECK(refused(sara::cosine_rate{.rate = 1e-3, .floor = -1}) == "");
  CHECK(refused(sara::below{.threshold = 0.2}) == "");  // eq. 12 makes it a rate of 4e-34
  CHECK(refused(sara::below{.threshold = 0.2}, sara::constant_rate{.rate = 1e-3}) == "expected an exception, got none");
  for (double const clip : {0.0, -1.0, std::nan("")})
    CHECK(complaint<sara::value_error>([&] { plain_tuner(weights, {.clip = clip}); }, {"clip_norm"}) == "");
}
