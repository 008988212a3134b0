// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <malloc.h>

#include <Eigen/SVD>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <sara/adapter/apply.hpp>
#include <sara/adapter/file.hpp>
#include <sara/tensor/vector.hpp>
#include <sara/update/sgd.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/mlp.hpp"
#include "../support/random.hpp"
#include "../support/recipe.hpp"
#include "../support/reference.hpp"
#include "../support/scratch.hpp"

// One case for each fault that was measured on the code published with the paper, named after it.

namespace {

/// Bytes that the whole program holds by new, and the most it held since `peak` was set.
std::atomic<std::int64_t> held{0};
std::atomic<std::int64_t> peak{0};

void count(std::int64_t bytes) {
  auto const now = held += bytes;
  for (auto most = peak.load(); most < now && !peak.compare_exchange_weak(most, now);) {
  }
}

}  // namespace

void* operator new(std::size_t bytes, std::nothrow_t const&) noexcept {
  auto* const p = std::malloc(bytes > 0 ? bytes : 1);
  if (p != nullptr) count(static_cast<std::int64_t>(malloc_usable_size(p)));
  return p;
}
void* operator new(std::size_t bytes) {
  auto* const p = operator new(bytes, std::nothrow);
  if (p == nullptr) throw std::bad_alloc{};
  return p;
}
void operator delete(void* p) noexcept {
  if (p != nullptr) count(-static_cast<std::int64_t>(malloc_usable_size(p)));
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }

namespace {

using sara::test::difference;
using sara::test::golden_samples;
using sara::test::make_tuner;
using sara::test::mlp;
using sara::test::same_bits;
using sara::test::uniform;
using recipe = sara::test::recipe<>;

template <class Tuner, class Model>
void train(Tuner& tuner, Model const& model, int steps) {
  for (int step = 0; step < steps; ++step) {
    model.backward(tuner, golden_samples<float>(8 * (step % 8), 8));
    tuner.step();
  }
}

/// A model after some steps.
template <sara::Scalar T = float>
mlp<T> trained(recipe const& r, int steps) {
  mlp<T> model;
  auto tuner = make_tuner(model.weights(), r);
  train(tuner, model, steps);
  return model;
}

/// ‖·‖_* of the entries below θ, as a dense matrix.
double norm_below(std::vector<float> const& weights, Eigen::Index rows, double threshold) {
  Eigen::MatrixXd dense = Eigen::MatrixXd::Zero(rows, std::ssize(weights) / rows);
  for (auto const p : sara::test::below_threshold(weights, threshold))
    dense(p / dense.cols(), p % dense.cols()) = weights[static_cast<std::size_t>(p)];
  return Eigen::BDCSVD<Eigen::MatrixXd>{dense}.singularValues().sum();
}

}  // namespace

TEST_CASE("fault: the chosen weights are overwritten with their absolute values before the first step") {
  mlp<float> const base;
  mlp<float> model;
  auto tuner = make_tuner(model.weights());
  CHECK(model.same_as(base));
  train(tuner, model, 1);
  int negative = 0;
  for (std::size_t i = 0; i < model.names.size(); ++i)
    for (std::size_t k = 0; k < base[i].size(); ++k) {
      CHECK(std::abs(model[i][k] - base[i][k]) <= 0.0101f);  // the first step of AdamW goes by the rate
      negative += base[i][k] < -0.02f && model[i][k] < 0;
    }
  CHECK(negative > 40);
}

TEST_CASE("fault: the low-rank loss has no effect, and its gradient piles up unread") {
  recipe const with{.lambda = 0.05};
  auto const without = trained({}, 20);
  auto const pulled = trained(with, 20);
  CHECK(!pulled.same_as(without));

  mlp<float> model;  // by the norm alone
  auto const start = norm_below(model[0], 24, 0.08) + norm_below(model[2], 5, 0.08);
  auto tuner = make_tuner(model.weights(), with);
  double last = tuner.step().regularizer_loss();
  CHECK(last == doctest::Approx(0.05 * start).epsilon(1e-5));
  double first_norm = 0;
  for (int step = 0; step < 5; ++step) {
    auto const report = tuner.step();
    CHECK(report.regularizer_loss() < last);
    last = report.regularizer_loss();
    if (step == 0) first_norm = report.gradient_norm();
    CHECK(report.gradient_norm() <= 1.01 * first_norm);
    for (auto const* name : model.names)
      for (auto const g : tuner.gradient(name)) CHECK(g == 0);
  }
}

TEST_CASE("fault: all dense gradients are alive at once") {
  constexpr std::int64_t layers = 6;
  constexpr std::int64_t side = 512;
  constexpr std::int64_t dense_bytes = side * side * 4;
  std::vector<std::vector<float>> weights;
  std::vector<sara::named_tensor> named;
  for (std::int64_t i = 0; i < layers; ++i) {
    weights.push_back(uniform<float>("layer " + std::to_string(i), side * side, 0.1));
    named.push_back({std::to_string(i), sara::view(weights.back().data(), {side, side})});
  }
  auto tuner = make_tuner(named, {.threshold = 0.005});
  auto const n = tuner.learning();
  CHECK(n > layers * side * side / 25);
  CHECK(tuner.memory().positions == 4 * n);
  CHECK(tuner.memory().columns == 4 * 3 * n);  // gradient and two moments
  CHECK(tuner.memory().total() < dense_bytes * layers / 3);

  auto const dy = uniform<float>("dy", 8 * side);
  auto const x = uniform<float>("x", 8 * side);
  auto const step = [&] {
    for (std::int64_t i = layers - 1; i >= 0; --i)
      tuner[std::to_string(i)].accumulate(sara::view(dy.data(), {8, side}), sara::view(x.data(), {8, side}));
    tuner.step();
  };
  auto const at_first = held.load();
  step();  // plans and workspace are made once
  CHECK(tuner.memory().plans < 4 * n);
  CHECK(held - at_first < tuner.memory().plans + dense_bytes * 2);

  auto const before = held.load();
  peak = before;
  step();
  step();
  CHECK(peak - before < dense_bytes / 4);
  CHECK(held == before);
}

TEST_CASE("fault: two backward passes before one step fail") {
  mlp<float> model;
  auto tuner = make_tuner(model.weights());
  model.backward(tuner, golden_samples<float>());
  auto expected = tuner.gradient("fc1.weight");
  tuner.zero_gradient();
  model.backward(tuner, golden_samples<float>(0, 32));
  model.backward(tuner, golden_samples<float>(32, 32));
  for (auto& g : expected) g *= 2;  // means of half as many samples
  CHECK(difference(tuner.gradient("fc1.weight"), expected, {1e-7, 1e-5}) == "");
}

TEST_CASE("fault: clipping by the model's parameters does nothing") {
  // ε far above the gradients makes AdamW's step proportional to them
  mlp<float> const base;
  auto const distance = [&](double clip) {
    auto const model = trained({.rule = {.epsilon = 10, .weight_decay = 0}, .clip = clip}, 5);
    double sum = 0;
    for (std::size_t k = 0; k < base[0].size(); ++k) sum += std::abs(static_cast<double>(model[0][k] - base[0][k]));
    return sum;
  };
  auto const free = distance(1e9);
  CHECK(free > 1e-4);
  CHECK(distance(1e-2) < 0.2 * free);
}

TEST_CASE("fault: frozen parameters are trained") {
  mlp<float> const base;
  auto const model = trained({.filter = {.exclude = {"fc1.*"}}}, 10);
  CHECK(same_bits(model[0], base[0]));
  CHECK(same_bits(model[1], base[1]));
  CHECK(!same_bits(model[2], base[2]));
}

TEST_CASE("fault: tied weights keep a stray dense gradient") {
  auto w = uniform<float>("tied", 200 * 200, 0.1);
  std::vector<sara::named_tensor> const names{{"embedding", sara::view(w.data(), {200, 200})},
                                              {"head", sara::view(w.data(), {200, 200})}};
  auto tuner = make_tuner(names, {.threshold = 0.005});
  auto const once = make_tuner({names[0]}, {.threshold = 0.005});
  CHECK(tuner.memory().total() == once.memory().total());
  CHECK(tuner.selected() == once.selected());
  auto const g = uniform<float>("g", 200 * 200);
  tuner["embedding"].accumulate(g);
  auto expected = tuner.gradient("embedding");
  tuner["head"].accumulate(g);
  for (auto& value : expected) value *= 2;
  CHECK(tuner.gradient("embedding") == expected);
}

TEST_CASE("fault: the switch loses an iteration and resets the learning rate") {
  constexpr int steps = 20;
  recipe r{.rate = {.rate = 0.02, .steps = steps}};
  auto const unswitched = trained(r, steps / 2);
  r.reselect = {steps / 2};
  CHECK(trained(r, steps / 2).same_as(unswitched));  // the step before the switch is done in full

  mlp<float> model;
  auto tuner = make_tuner(model.weights(), r);
  for (int step = 0; step < steps; ++step) {
    auto const before = model;
    model.backward(tuner, golden_samples<float>());
    auto const report = tuner.step();
    CHECK(!model.same_as(before));
    CHECK(report.step == step + 1);
    CHECK(report.rate == doctest::Approx(0.02 * sara::cosine_rate{.steps = steps}.factor(step)));
    CHECK(report.reselected == (step + 1 == steps / 2));
  }
}

TEST_CASE("fault: a run resumed from a saved state goes wrong") {
  sara::test::scratch const folder;
  recipe const r{.lambda = 1e-2, .reselect = {8}};
  auto const expected = trained(r, 16);
  {
    mlp<float> model;
    auto tuner = make_tuner(model.weights(), r);
    train(tuner, model, 8);  // batches start over every eight steps
    tuner.save_state(folder / "state");
  }
  mlp<float> model;
  auto tuner = make_tuner(model.weights(), r);
  tuner.load_state(folder / "state");
  train(tuner, model, 8);
  CHECK(model.same_as(expected));
}

TEST_CASE("fault: an adapter does not load in a program of its own") {
  sara::test::scratch const folder;
  mlp<float> model;
  {
    auto tuner = make_tuner(model.weights(), {.lambda = 1e-2, .reselect = {10}});
    train(tuner, model, 20);
    sara::save(tuner.adapter(), folder / "adapter");
  }
  mlp<float> fresh;  // all that the other program has: base weights and the file
  auto applied = sara::apply(sara::host{1}, sara::load_adapter(folder / "adapter"), fresh.weights());
  for (std::size_t i = 0; i < model.names.size(); ++i)
    CHECK(difference(fresh[i], model[i], {0x1p-26, 0}) == "");  // half an ulp of ΔP, which is below ¼
  applied.undo();
  CHECK(fresh.same_as(mlp<float>{}));
}

TEST_CASE_TEMPLATE("fault: a mask rebuilt from weights of another dtype than float32 is another mask", T,
                   sara::bfloat16, sara::float16) {
  sara::test::scratch const folder;
  mlp<T> const base;
  mlp<T> model;
  auto tuner = make_tuner(model.weights(), {.reselect = {10}});
  train(tuner, model, 20);
  sara::save(tuner.adapter(), folder / "adapter");
  auto const stored = sara::load_adapter(folder / "adapter");
  double const threshold = sara::widen(T{0.08f});
  CHECK(stored.tensors.at("fc1.weight").positions == sara::test::below_threshold(base[0], threshold));
  CHECK(sara::test::below_threshold(model[0], threshold) != sara::test::below_threshold(base[0], threshold));

  mlp<T> fresh;
  static_cast<void>(sara::apply(sara::host{1}, stored, fresh.weights()));
  CHECK(fresh.same_as(model));
}

TEST_CASE("fault: without a switch it crashes") {
  mlp<float> model;
  sara::fine_tuner tuner{sara::host{1},          model.weights(), sara::below{.threshold = 0.08},
                         sara::never_reselect{}, sara::sgd{},     sara::constant_rate{.rate = 0.1}};
  auto const learning = tuner.learning();
  auto const data = golden_samples<float>();
  auto const start = model.backward(tuner, data);
  for (int step = 0; step < 50; ++step) {
    tuner.step();
    CHECK(tuner.learning() == learning);
    model.backward(tuner, data);
  }
  CHECK(model.backward(tuner, data) < start);
}

TEST_CASE("fault: the norm is of one large matrix at random, and never of a convolution") {
  auto conv = uniform<float>("conv", 8 * 4 * 3 * 3, 0.1);
  auto small = uniform<float>("small", 6 * 5, 0.1);
  auto linear = uniform<float>("linear", 70 * 66, 0.1);
  double const expected = norm_below(conv, 8, 0.08) + norm_below(small, 6, 0.08) + norm_below(linear, 70, 0.08);
  auto const base = std::vector{conv, small, linear};
  auto tuner = make_tuner({{"conv", sara::view(conv.data(), {8, 4, 3, 3})},
                           {"small", sara::view(small.data(), {6, 5})},
                           {"linear", sara::view(linear.data(), {70, 66})}},
                          {.lambda = 0.5});
  CHECK(tuner.step().regularizer_loss() == doctest::Approx(0.5 * expected).epsilon(1e-5));
  CHECK(!same_bits(conv, base[0]));
  CHECK(!same_bits(small, base[1]));
  CHECK(!same_bits(linear, base[2]));
}
