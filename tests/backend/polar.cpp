// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/backend/host/polar.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/polar.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"
#include "../support/svd.hpp"

namespace {

using sara::test::difference;
using sara::test::golden;
using sara::test::make_store;

/// Norm and subgradient of the matrix with these values at these positions.
template <class Store>
std::pair<double, std::vector<double>> polar(sara::matrix_shape shape, std::vector<std::int64_t> const& positions,
                                             std::vector<double> const& values) {
  sara::host const backend{1};
  auto const store = make_store<Store>(backend, shape, positions);
  std::vector<double> gradient(positions.size());
  double norm = 0;
  sara::test::polar_factor(backend, sara::exact_svd{}, store.ref(), values.data(), 1.0, gradient.data(), &norm);
  return {norm, gradient};
}

}  // namespace

TEST_CASE("nuclear norm and its subgradient") {
  auto const& file = golden("nuclear.safetensors");
  for (std::string const name :
       {"tall", "wide", "square", "row", "column", "zero", "rank5", "illcond", "equal_sigma", "sparse5", "sparse30"}) {
    CAPTURE(name);
    auto const dense = file.read<float>(name + ".a");
    auto const& shape = file.at(name + ".a").shape;
    bool const masked = file.contains(name + ".mask");
    auto const positions = masked ? sara::test::positions_in(file.read<bool>(name + ".mask"))
                                  : sara::test::every_position(std::ssize(dense));
    std::vector<double> values;
    for (auto const p : positions) values.push_back(dense[static_cast<std::size_t>(p)]);

    auto const [norm, gradient] = polar<sara::flat_index<sara::host>>({shape[0], shape[1]}, positions, values);
    CHECK(difference<double>({norm}, file.read<double>(name + ".norm"), {1e-30, 1e-10}) == "");
    auto const expected = file.read<double>(name + (masked ? ".grad_compact" : ".uvt"));
    CHECK(difference(gradient, expected, {1e-8, 0}) == "");
  }
}

TEST_CASE_TEMPLATE("the engines without a decomposition keep their bound", Engine, sara::qdwh, sara::polar_express,
                   sara::automatic_polar) {
  sara::host const backend{2};
  auto const check = [&]<class R>(R scale, sara::matrix_shape shape, std::vector<std::int64_t> const& positions,
                                  std::vector<double> const& numbers) {
    std::vector<R> values;
    for (auto const v : numbers) values.push_back(static_cast<R>(v) * scale);
    auto const store = make_store<sara::flat_index<sara::host>>(backend, shape, positions);
    auto const [norm, exact] = polar<sara::flat_index<sara::host>>(shape, positions, {values.begin(), values.end()});
    std::vector<R> gradient(values.size());
    double loss = 0;
    sara::test::polar_factor(backend, Engine{}, store.ref(), values.data(), 1.0, gradient.data(), &loss);
    CHECK(sara::test::relative_error(gradient, exact) <= 1e-4);
    CHECK(std::abs(loss - norm) <= 1e-4 * norm);
  };

  SUBCASE("golden matrices") {
    auto const& file = golden("nuclear.safetensors");
    for (std::string const name : {"tall", "wide", "square", "row", "column", "zero", "rank5", "illcond", "equal_sigma",
                                   "sparse5", "sparse30"}) {
      CAPTURE(name);
      auto const dense = file.read<float>(name + ".a");
      auto const& shape = file.at(name + ".a").shape;
      auto const positions = file.contains(name + ".mask") ? sara::test::positions_in(file.read<bool>(name + ".mask"))
                                                           : sara::test::every_position(std::ssize(dense));
      auto const numbers = sara::test::at_positions(dense, positions);
      check(1.0F, {shape[0], shape[1]}, positions, {numbers.begin(), numbers.end()});
      check(1.0, {shape[0], shape[1]}, positions, {numbers.begin(), numbers.end()});
    }
  }
  SUBCASE("a small entry alone in its row and column is zero to all engines or to none") {
    std::vector<std::int64_t> diagonal;
    for (std::int64_t i = 0; i < 70; ++i) diagonal.push_back(71 * i);
    for (double const small : {1e-12, 1e-9, 1e-5}) {
      CAPTURE(small);
      std::vector<double> numbers(70, 1.0);
      numbers.back() = small;
      check(1.0F, {70, 70}, diagonal, numbers);
      check(1.0, {70, 70}, diagonal, numbers);
    }
  }
  SUBCASE("random matrices of all shapes, densities and scales") {
    for (sara::matrix_shape const shape : {sara::matrix_shape{70, 70}, {40, 130}, {150, 90}, {100, 240}})
      for (double const density : {0.02, 0.06, 0.3, 1.0}) {
        CAPTURE(shape.rows);
        CAPTURE(density);
        auto const positions = sara::test::random_positions("polar mask", shape.size(), density);
        auto const numbers = sara::test::uniform<double>("polar values", std::ssize(positions));
        check(1.0F, shape, positions, numbers);
        check(1e-20F, shape, positions, numbers);
        check(1e20F, shape, positions, numbers);
        check(1.0, shape, positions, numbers);
      }
  }
}

TEST_CASE("large matrices are iterated in float, and in double where float does not resolve them") {
  sara::host const backend{1};
  sara::thread_pool pool{1};
  sara::matrix_shape const shape{210, 210};
  int in_float = 0, only_in_double = 0;
  for (double const density : {0.025, 0.1})
    for (std::string const name : {"a", "b", "c", "d"}) {
      auto const positions = sara::test::random_positions(name + " mask", shape.size(), density);
      auto const values = sara::test::uniform<float>(name + " values", std::ssize(positions));
      auto const store = make_store<sara::flat_index<sara::host>>(backend, shape, positions);
      auto const a = sara::detail::occupied(store.ref(), values.data());
      auto const found = sara::detail::iterated_factor<float>(pool, a);
      if (!found) continue;
      ++(sara::detail::rational_polar_factor<float>(pool, a) ? in_float : only_in_double);
      CHECK(sara::test::relative_error(*found, sara::detail::svd_factor(a)) <= sara::detail::polar_error);
    }
  CHECK(in_float > 0);
  CHECK(only_in_double > 0);
}

TEST_CASE("the default engine gives the same bits for any number of threads") {
  sara::matrix_shape const shape{200, 260};
  auto const positions = sara::test::random_positions("mask", shape.size(), 0.1);
  auto const values = sara::test::uniform<float>("values", std::ssize(positions));
  std::vector<std::vector<float>> gradients;
  for (int const threads : sara::test::thread_counts) {
    sara::host const backend{threads};
    auto const store = make_store<sara::flat_index<sara::host>>(backend, shape, positions);
    double norm = 0;
    gradients.emplace_back(values.size());
    sara::test::polar_factor(backend, sara::automatic_polar{}, store.ref(), values.data(), 1.0, gradients.back().data(),
                             &norm);
    CHECK(gradients.back() == gradients.front());
  }
}

TEST_CASE_TEMPLATE("rows and columns without entries are left out, whatever the store", Store, SARA_HOST_STORES) {
  std::vector<std::int64_t> const positions{3 * 50 + 7, 3 * 50 + 20, 90 * 50 + 7, 90 * 50 + 20};
  std::vector<double> const values{3, 0, 0, -2};  // singular values 3 and 2
  auto const [norm, gradient] = polar<Store>({100, 50}, positions, values);
  CHECK(norm == doctest::Approx(5));
  CHECK(difference(gradient, std::vector<double>{1, 0, 0, -1}, {1e-12, 0}) == "");
}

TEST_CASE("norm and subgradient are weighted and added; nothing selected is nothing to do") {
  sara::host const backend{1};
  auto const store = make_store<sara::bitmask<sara::host>>(backend, {2, 3}, {4});
  std::vector<double> const value{-2};
  std::vector<double> gradient{10};
  double norm = 100;
  sara::test::polar_factor(backend, sara::exact_svd{}, store.ref(), value.data(), 0.5, gradient.data(), &norm);
  CHECK(norm == doctest::Approx(101));
  CHECK(gradient[0] == doctest::Approx(9.5));
  auto const none = make_store<sara::bitmask<sara::host>>(backend, {2, 3}, {});
  sara::test::polar_factor(backend, sara::exact_svd{}, none.ref(), value.data(), 0.5, gradient.data(), &norm);
  CHECK(norm == doctest::Approx(101));
}
