// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <sara/store/bitmask.hpp>
#include <sara/store/row_index.hpp>

#include "../support/compare.hpp"
#include "../support/mlp.hpp"
#include "../support/recipe.hpp"
#include "../support/reference.hpp"
#include "../support/scratch.hpp"
#include "../support/stores.hpp"

namespace {

using sara::test::difference;
using sara::test::golden;
using sara::test::tolerance;

template <sara::Real R, template <class> class S>
struct setting {
  using real = R;
  template <class Backend>
  using store = S<Backend>;
};
using flat_float64 = setting<double, sara::flat_index>;
using flat_float32 = setting<float, sara::flat_index>;
using bits_float32 = setting<float, sara::bitmask>;
using rows_float32 = setting<float, sara::row_index>;

std::vector<std::int64_t> positions_of_mask(std::string const& name) {
  auto const mask = golden("sara_mlp.safetensors").read<bool>(name);
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < mask.size(); ++i)
    if (mask[i]) out.push_back(static_cast<std::int64_t>(i));
  return out;
}

/// weight · ‖·‖_* of fc1.weight at the positions; its gradient is added.
template <sara::Real R>
double norm_of(double weight, std::vector<R> const& fc1, std::vector<std::int64_t> const& positions,
               std::vector<R>& gradient) {
  sara::host const backend{1};
  auto const store = sara::test::make_store<sara::flat_index<sara::host>>(backend, {24, 12}, positions);
  auto const values = sara::test::at_positions(fc1, positions);
  double loss = 0;
  sara::sparse_matrix const matrix{store.ref(), values.data(), gradient.data(), &loss};
  sara::nuclear_norm{.weight = weight}.add(backend, std::span{&matrix, 1});
  return loss;
}

}  // namespace

TEST_CASE_TEMPLATE("60 steps of a network, as the reference took them", S, flat_float64, flat_float32, bits_float32,
                   rows_float32) {
  using R = typename S::real;
  constexpr bool is_double = std::same_as<R, double>;
  tolerance const for_values{is_double ? 1e-9 : 5e-6, 0};
  tolerance const for_losses{is_double ? 1e-9 : 0, is_double ? 0 : 5e-6};
  tolerance const for_gradients{is_double ? 1e-10 : 1e-6, 0};
  auto const& file = golden("sara_mlp.safetensors");
  auto const hyper = file.read<double>("hyper");
  auto const data = sara::test::golden_samples<R>();

  for (std::string const run : {"plain", "prog", "full"}) {
    CAPTURE(run);
    bool const switches = run != "plain";
    double const lambda = run == "full" ? hyper[6] : 0;
    sara::test::mlp<R> model;
    auto const start = model;
    auto tuner = sara::test::make_tuner<R, S::template store>(
        model.weights(), {.threshold = hyper[0],
                          .lambda = lambda,
                          .min_side = 12,  // fc1.weight alone
                          .reselect = switches ? std::vector<std::int64_t>{30} : std::vector<std::int64_t>{},
                          .rule = {.beta1 = hyper[2], .beta2 = hyper[3], .epsilon = hyper[4], .weight_decay = hyper[5]},
                          .rate = {.rate = hyper[1], .steps = 60},
                          .threads = 2});
    std::vector<std::vector<std::int64_t>> selected;
    for (auto const* name : model.names) selected.push_back(positions_of_mask(std::string("mask1.") + name));
    auto learning = selected;

    std::vector<double> losses, norms, rates;
    auto const check_values = [&](int row) {
      for (std::size_t i = 0; i < model.names.size(); ++i) {
        auto const n = std::ssize(selected[i]);
        auto const all = file.read<double>(run + ".values." + model.names[i]);
        CHECK(difference(sara::test::at_positions(model[i], selected[i]),
                         std::vector<double>(all.begin() + row * n, all.begin() + (row + 1) * n), for_values) == "");
      }
    };
    check_values(0);
    for (int t = 1; t <= 60; ++t) {
      CAPTURE(t);
      losses.push_back(model.backward(tuner, data));
      std::vector<std::vector<R>> gradients;
      for (auto const* name : model.names) gradients.push_back(tuner.gradient(name));
      std::vector<R> ignored(learning[0].size());
      norms.push_back(norm_of(1, model[0], learning[0], ignored));
      double const regularizer_loss = norm_of(lambda, model[0], learning[0], gradients[0]);

      auto const report = tuner.step();
      CHECK(report.step == t);
      CHECK(report.reselected == (switches && t == 30));
      CHECK(report.regularizer_loss() == doctest::Approx(regularizer_loss).epsilon(1e-6));
      rates.push_back(report.rate);

      if (t == 1 || (t == 31 && switches)) {
        double squared_norm = 0;
        for (std::size_t i = 0; i < model.names.size(); ++i) {
          auto const expected = file.read<double>(run + ".grad" + std::to_string(t) + "." + model.names[i]);
          CHECK(difference(gradients[i], expected, for_gradients) == "");
          for (auto const g : expected) squared_norm += g * g;
        }
        CHECK(report.gradient_norm() == doctest::Approx(std::sqrt(squared_norm)).epsilon(1e-5));
      }
      if (report.reselected) {
        sara::test::scratch const folder;
        tuner.save_state(folder / "state");
        auto const state = sara::safetensors::load(folder / "state");
        for (std::size_t i = 0; i < model.names.size(); ++i) {
          auto const name = std::string(model.names[i]);
          learning[i] = positions_of_mask(run + ".mask2." + name);
          auto const left = state.template read<std::int32_t>(name + ".reselected");
          CHECK(std::vector<std::int64_t>(left.begin(), left.end()) == learning[i]);
        }
      }
      if (t % 10 == 0) check_values(t / 10);
    }
    CHECK(difference(losses, file.read<double>(run + ".loss"), for_losses) == "");
    CHECK(difference(norms, file.read<double>(run + ".nuc"), for_losses) == "");
    CHECK(difference(rates, file.read<double>("lr"), {0, 1e-12}) == "");

    auto const learned = tuner.adapter();
    for (std::size_t i = 0; i < model.names.size(); ++i) {
      CHECK(learned.tensors.at(model.names[i]).positions == selected[i]);
      auto unselected = start[i];  // with what was learned at M, all of it is the trained tensor
      for (auto const p : selected[i]) unselected[static_cast<std::size_t>(p)] = model[i][static_cast<std::size_t>(p)];
      CHECK(sara::test::same_bits(unselected, model[i]));
    }
  }
}
