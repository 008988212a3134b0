// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/store/bitmask.hpp>
#include <sara/store/row_index.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/placed.hpp"
#include "../support/polar.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace sara::test {

/// ‖A‖_* and its subgradient for the matrix with these values at these positions.
template <class Engine, Real R, class Backend>
[[nodiscard]] std::pair<double, std::vector<R>> polar_there(Backend const& backend, matrix_shape shape,
                                                            std::vector<std::int64_t> const& positions,
                                                            std::vector<R> const& values) {
  auto const store = placed_store<row_index<Backend>>(backend, shape, positions);
  auto const column = place(backend, values);
  auto gradient = place(backend, std::vector<R>(values.size()));
  auto norm = place(backend, std::vector<double>{0});
  polar_factor(backend, Engine{}, store.ref(), column.data(), 1.0, gradient.data(), norm.data());
  return {norm.get()[0], gradient.get()};
}

/// Empty if an engine is within 1e-4 of the host's decomposition in float64.
template <class Engine, Real R, class Backend>
[[nodiscard]] std::string polar_fault(Backend const& backend, matrix_shape shape,
                                      std::vector<std::int64_t> const& positions, std::vector<R> const& values) {
  auto const [exact_norm, exact] =
      polar_there<exact_svd, double>(host{1}, shape, positions, {values.begin(), values.end()});
  auto const [norm, got] = polar_there<Engine>(backend, shape, positions, values);
  auto const error = relative_error(got, exact);
  if (!(error <= 1e-4)) return "error of the factor: " + std::to_string(error);
  if (!(std::abs(norm - exact_norm) <= 1e-4 * exact_norm))
    return "expected the norm " + std::to_string(exact_norm) + ", got " + std::to_string(norm);
  return {};
}

template <class Place, class Engine>
void check_engine() {
  auto const& file = golden("nuclear.safetensors");
  for (auto const& backend : Place::all()) {
    for (std::string const name : {"tall", "wide", "square", "row", "column", "zero", "rank5", "illcond", "equal_sigma",
                                   "sparse5", "sparse30"}) {
      CAPTURE(name);
      auto const dense = file.template read<float>(name + ".a");
      auto const& shape = file.at(name + ".a").shape;
      auto const positions = file.contains(name + ".mask") ? positions_in(file.template read<bool>(name + ".mask"))
                                                           : every_position(std::ssize(dense));
      auto const values = at_positions(dense, positions);
      CHECK(polar_fault<Engine, double>(backend, {shape[0], shape[1]}, positions, {values.begin(), values.end()}) ==
            "");
    }
    for (matrix_shape const shape : {matrix_shape{70, 70}, {40, 130}, {150, 90}})
      for (double const density : {0.02, 0.06, 0.3, 1.0}) {
        CAPTURE(shape.rows);
        CAPTURE(density);
        auto const positions = random_positions("polar mask", shape.size(), density);
        for (double const scale : {1.0, 1e-20, 1e20}) {
          auto const values = uniform<float>("polar values", std::ssize(positions), scale);
          CHECK(polar_fault<Engine, float>(backend, shape, positions, values) == "");
        }
      }
  }
}

}  // namespace sara::test

TEST_CASE_TEMPLATE_DEFINE("the exact engine agrees with golden norms and subgradients", Place, sara_exact_polar) {
  using namespace sara::test;
  auto const& file = golden("nuclear.safetensors");
  for (auto const& backend : Place::all())
    for (std::string const name : {"tall", "wide", "square", "row", "column", "zero", "rank5", "illcond", "equal_sigma",
                                   "sparse5", "sparse30"}) {
      CAPTURE(name);
      auto const dense = file.template read<float>(name + ".a");
      auto const& shape = file.at(name + ".a").shape;
      bool const masked = file.contains(name + ".mask");
      auto const positions =
          masked ? positions_in(file.template read<bool>(name + ".mask")) : every_position(std::ssize(dense));
      auto const values = at_positions(dense, positions);
      auto const [norm, gradient] = polar_there<sara::exact_svd, double>(backend, {shape[0], shape[1]}, positions,
                                                                         {values.begin(), values.end()});
      CHECK(difference<double>({norm}, file.template read<double>(name + ".norm"), {1e-30, 1e-10}) == "");
      auto const expected = file.template read<double>(name + (masked ? ".grad_compact" : ".uvt"));
      CHECK(difference(gradient, expected, {1e-8, 0}) == "");
      // the same decomposition for float
      CHECK(polar_fault<sara::exact_svd, float>(backend, {shape[0], shape[1]}, positions, values) == "");
    }
}

TEST_CASE_TEMPLATE_DEFINE("qdwh keeps its bound", Place, sara_qdwh) { sara::test::check_engine<Place, sara::qdwh>(); }
TEST_CASE_TEMPLATE_DEFINE("polar_express keeps its bound", Place, sara_polar_express) {
  sara::test::check_engine<Place, sara::polar_express>();
}
TEST_CASE_TEMPLATE_DEFINE("automatic_polar keeps its bound", Place, sara_automatic_polar) {
  sara::test::check_engine<Place, sara::automatic_polar>();
}

TEST_CASE_TEMPLATE_DEFINE("norm and subgradient are weighted and added; nothing selected is nothing to do", Place,
                          sara_polar_weight) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    using bits = sara::bitmask<typename Place::backend>;
    auto const store = placed_store<bits>(backend, {2, 3}, {4});
    auto const none = placed_store<bits>(backend, {2, 3}, {});
    auto const value = place(backend, std::vector<double>{-2});
    auto gradient = place(backend, std::vector<double>{10});
    auto norm = place(backend, std::vector<double>{100});
    polar_factor(backend, sara::automatic_polar{}, store.ref(), value.data(), 0.5, gradient.data(), norm.data());
    polar_factor(backend, sara::automatic_polar{}, none.ref(), value.data(), 0.5, gradient.data(), norm.data());
    CHECK(norm.get()[0] == doctest::Approx(101));
    CHECK(gradient.get()[0] == doctest::Approx(9.5));
  }
}

TEST_CASE_TEMPLATE_DEFINE("many matrices in one call are as many calls", Place, sara_polar_many) {
  using namespace sara::test;
  using backend_type = typename Place::backend;
  std::vector<sara::matrix_shape> const shapes{{40, 70}, {90, 30}, {40, 70}, {70, 40}, {8, 8}, {40, 70}};
  for (auto const& backend : Place::all()) {
    std::list<sara::row_index<backend_type>> stores;
    std::list<placed<backend_type, float>> values, gradients;
    auto losses = place(backend, std::vector<double>(shapes.size()));
    std::vector<sara::sparse_matrix<typename sara::row_index<backend_type>::ref_type, float>> matrices;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      auto const positions = random_positions("mask " + std::to_string(i), shapes[i].size(), 0.4);
      stores.push_back(placed_store<sara::row_index<backend_type>>(backend, shapes[i], positions));
      values.emplace_back(backend, uniform<float>("values " + std::to_string(i), std::ssize(positions)));
      gradients.emplace_back(backend, std::vector<float>(positions.size()));
      matrices.push_back({stores.back().ref(), values.back().data(), gradients.back().data(), losses.data() + i});
    }
    auto const check = [&](auto engine) {
      backend.polar_factors(engine, std::span<typename decltype(matrices)::value_type const>{matrices}, 1.0);
      auto const together = losses.get();
      auto gradient = gradients.begin();
      for (std::size_t i = 0; i < shapes.size(); ++i, ++gradient) {
        auto column = place(backend, std::vector<float>(gradient->get().size()));
        auto loss = place(backend, std::vector<double>{0});
        polar_factor(backend, engine, matrices[i].positions, matrices[i].values, 1.0, column.data(), loss.data());
        CHECK(together[i] == doctest::Approx(loss.get()[0]).epsilon(1e-6));
        CHECK(difference(gradient->get(), column.get(), {1e-5, 0}) == "");
      }
      losses = place(backend, std::vector<double>(shapes.size()));
      for (std::size_t i = 0; i < shapes.size(); ++i) matrices[i].loss = losses.data() + i;
      for (auto& g : gradients) sara::set_zero(backend, g.data(), std::ssize(g.get()));
    };
    check(sara::exact_svd{});
    check(sara::qdwh{});
    check(sara::polar_express{});
    check(sara::automatic_polar{});
    backend.polar_factors(sara::qdwh{}, std::span<typename decltype(matrices)::value_type const>{}, 1.0);
  }
}

TEST_CASE_TEMPLATE_DEFINE("NaN among the values is seen", Place, sara_polar_nan) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    auto values = uniform<float>("values", 100 * 80);
    values[17] = std::numeric_limits<float>::quiet_NaN();
    auto const norm = polar_there<sara::automatic_polar>(backend, {100, 80}, every_position(8000), values).first;
    CHECK(std::isnan(norm));
  }
}

#define SARA_POLAR_CASES(Place)                           \
  TEST_CASE_TEMPLATE_INVOKE(sara_exact_polar, Place);     \
  TEST_CASE_TEMPLATE_INVOKE(sara_qdwh, Place);            \
  TEST_CASE_TEMPLATE_INVOKE(sara_polar_express, Place);   \
  TEST_CASE_TEMPLATE_INVOKE(sara_automatic_polar, Place); \
  TEST_CASE_TEMPLATE_INVOKE(sara_polar_weight, Place);    \
  TEST_CASE_TEMPLATE_INVOKE(sara_polar_many, Place);      \
  TEST_CASE_TEMPLATE_INVOKE(sara_polar_nan, Place)
