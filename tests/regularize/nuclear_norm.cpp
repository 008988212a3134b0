// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/store/flat_index.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::test::complaint;
using sara::test::difference;
using sara::test::golden;
using sara::test::make_store;

using flat = sara::flat_index<sara::host>;

/// ‖A‖_* and λ · its subgradient for the matrix with these values at these positions.
template <sara::Real R>
std::pair<double, std::vector<R>> loss_of(sara::nuclear_norm const& norm, sara::matrix_shape shape,
                                          std::vector<std::int64_t> const& positions, std::vector<R> const& values) {
  sara::host const backend{1};
  auto const store = make_store<flat>(backend, shape, positions);
  std::vector<R> gradient(values.size());
  double loss = 0;
  sara::sparse_matrix const matrix{store.ref(), values.data(), gradient.data(), &loss};
  norm.add(backend, std::span{&matrix, 1});
  return {loss, gradient};
}

std::vector<std::int64_t> every_position(std::int64_t count) {
  std::vector<std::int64_t> out;
  for (std::int64_t p = 0; p < count; ++p) out.push_back(p);
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("golden norms and compact gradients, λ times", R, float, double) {
  constexpr bool is_float = std::same_as<R, float>;
  constexpr double weight = 0.25;
  auto const& file = golden("nuclear.safetensors");
  for (std::string const name :
       {"tall", "wide", "square", "row", "column", "zero", "rank5", "illcond", "equal_sigma", "sparse5", "sparse30"}) {
    CAPTURE(name);
    auto const dense = file.read<float>(name + ".a");
    auto const& shape = file.at(name + ".a").shape;
    auto positions = every_position(std::ssize(dense));
    bool const is_masked = file.contains(name + ".mask");
    if (is_masked) {
      auto const mask = file.read<bool>(name + ".mask");
      std::erase_if(positions, [&](std::int64_t p) { return !mask[static_cast<std::size_t>(p)]; });
    }
    auto const compact = sara::test::at_positions(dense, positions);
    auto const [loss, gradient] = loss_of<R>({.weight = weight, .engine = sara::exact_svd{}}, {shape[0], shape[1]},
                                             positions, {compact.begin(), compact.end()});

    auto const norm = file.read<double>(name + ".norm")[0];
    CHECK(std::abs(loss - weight * norm) <= (is_float ? 5e-6 : 1e-10) * weight * norm);
    auto expected = file.read<double>(name + (is_masked ? ".grad_compact" : ".uvt"));
    for (auto& g : expected) g *= weight;
    double const allowed = !is_float ? 1e-8 : name == "illcond" ? 5e-4 : name == "sparse5" ? 1e-4 : 2e-5;
    CHECK(difference(gradient, expected, {weight * allowed, 0}) == "");
  }
}

TEST_CASE("the gradient is that of finite differences") {
  sara::nuclear_norm const norm{.weight = 0.7, .engine = sara::exact_svd{}};
  sara::matrix_shape const shape{9, 7};
  auto const positions = sara::test::random_positions("mask", shape.size(), 0.6);
  auto values = sara::test::uniform<double>("values", std::ssize(positions));
  auto const gradient = loss_of(norm, shape, positions, values).second;
  std::vector<double> expected;
  for (auto& value : values) {
    auto const at = value;
    auto const loss = [&](double shifted) {
      value = shifted;
      return loss_of(norm, shape, positions, values).first;
    };
    expected.push_back((loss(at + 1e-5) - loss(at - 1e-5)) / 2e-5);
    value = at;
  }
  CHECK(difference(gradient, expected, {1e-7, 0}) == "");
}

TEST_CASE("where the norm has a kink, ‖B‖ ≥ ‖A‖ + ⟨G, B - A⟩ holds for any B") {
  // A = a bᵀ with a third row of zeros: rank 1 of 4
  sara::matrix_shape const shape{5, 4};
  auto const positions = every_position(shape.size());
  auto a = sara::test::uniform<double>("rank one", shape.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = i / 4 == 2 ? 0 : a[i % 4] * static_cast<double>(1 + i / 4);
  auto const [norm_a, gradient] =
      loss_of(sara::nuclear_norm{.weight = 1, .engine = sara::exact_svd{}}, shape, positions, a);
  for (int trial = 0; trial < 50; ++trial) {
    auto b = sara::test::uniform<double>("trial " + std::to_string(trial), shape.size(), trial % 2 ? 2 : 1e-3);
    double inner = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      inner += gradient[i] * b[i];
      b[i] += a[i];
    }
    CHECK(loss_of(sara::nuclear_norm{.weight = 1, .engine = sara::exact_svd{}}, shape, positions, b).first >=
          norm_a + inner - 1e-12);
  }
}

TEST_CASE("a short use of the norm alone") {
  // [norm]
  sara::host const backend;
  std::vector<std::int64_t> const positions{0, 5, 10};  // the diagonal of a 4 x 4 matrix, but for its last entry
  sara::flat_index<sara::host> const store{backend, {4, 4}, positions.data(), 3};
  std::vector<float> const values{3, -2, 0};
  std::vector<float> gradient(3);
  double loss = 0;

  sara::nuclear_norm const norm{.weight = 0.1};
  sara::sparse_matrix const matrix{store.ref(), values.data(), gradient.data(), &loss};
  norm.add(backend, std::span{&matrix, 1});
  // loss: 0.1 · (3 + 2); gradient: 0.1 · {1, -1, 0}
  // [/norm]
  CHECK(loss == doctest::Approx(0.5));
  CHECK(difference(gradient, std::vector<double>{0.1, -0.1, 0}, {1e-7, 0}) == "");

  norm.add(backend, std::span{&matrix, 1});  // adds
  CHECK(loss == doctest::Approx(1));
  CHECK(difference(gradient, std::vector<double>{0.2, -0.2, 0}, {1e-7, 0}) == "");
}

TEST_CASE("it applies to matrices and convolutions whose smaller side is long enough") {
  sara::nuclear_norm norm{};
  CHECK(norm.applies_to({2, 2}));
  CHECK(!norm.applies_to({64, 1}));
  CHECK(!norm.applies_to({1, 64}));
  CHECK(!norm.applies_to({64}));
  CHECK(!norm.applies_to({}));
  for (double const weight : {-1.0, std::nan(""), HUGE_VAL}) {
    norm.weight = weight;
    CHECK(complaint<sara::value_error>([&] { return norm.applies_to({2, 2}); }, {"nuclear_norm", "weight"}) == "");
  }
  norm = {.min_side = 18};
  CHECK(norm.applies_to({18, 2, 3, 3}));  // [18, 2 · 3 · 3]
  CHECK(!norm.applies_to({17, 2, 3, 3}));
  CHECK(!norm.applies_to({64, 17}));
  CHECK(!sara::no_regularizer{}.applies_to({64, 64}));
  CHECK(sara::no_regularizer{}.at(0, 5).count == 0);
}

TEST_CASE("every matrix each step, one after the other, or one at random") {
  sara::nuclear_norm const every{};
  CHECK(every.at(3, 5).first == 0);
  CHECK(every.at(3, 5).count == 5);

  sara::nuclear_norm const in_turn{.matrices = sara::turn::round_robin};
  for (std::int64_t step = 0; step < 12; ++step) {
    CHECK(in_turn.at(step, 5).first == step % 5);
    CHECK(in_turn.at(step, 5).count == 1);
  }

  sara::nuclear_norm const at_random{.matrices = sara::turn::one_at_random, .seed = 3};
  sara::nuclear_norm const other{.matrices = sara::turn::one_at_random, .seed = 4};
  std::map<std::int64_t, int> taken;
  int equal = 0;
  for (std::int64_t step = 0; step < 5000; ++step) {
    auto const run = at_random.at(step, 5);
    CHECK(run.count == 1);
    CHECK(run.first == at_random.at(step, 5).first);
    ++taken[run.first];
    equal += run.first == other.at(step, 5).first;
  }
  CHECK(taken.size() == 5);
  for (auto const& [matrix, times] : taken) CHECK(std::abs(times - 1000) < 120);  // four standard deviations
  CHECK(std::abs(equal - 1000) < 120);

  for (auto const& norm : {every, in_turn, at_random}) CHECK(norm.at(7, 0).count == 0);
}
