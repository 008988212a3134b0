// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <variant>
#include <vector>

#include "batches.hpp"
#include "diffusion.hpp"
#include "finetune.hpp"
#include "sara_gradients.hpp"
#include "tests/examples/unet/device_support.hpp"
#include "tuning.hpp"
#include "weights.hpp"

namespace {

using namespace unet;
using namespace unet::test;

TEST_CASE("a device's compact gradients are its dense ones, gathered") {
  // Two channels a group at least: the mean of a group of one would take the gradient of the bias before it to zero.
  twins<double> t{{.channels = {16, 16, 24}, .embedding = 16, .classes = 4, .words = 7}};
  sara::fine_tuner tuner{t.backend, named_weights(t.device()),
                         sara::random{.fraction = 0.3, .over = sara::scope::tensor, .seed = 5},
                         sara::constant_rate{.rate = 1e-3}, sara::compute_in<double>{}};
  sara_gradients sampled{t.device(), tuner};
  recording_sink<host_layers<double>> dense{t.host.run()};
  small_batch<double> const small;
  basic_velocity_loss device_loss{t.device()};
  basic_velocity_loss host_loss{t.host};
  device_loss.differentiate(small.batch, 8, sampled);
  host_loss.differentiate(small.batch, 8, dense);
  auto const selected = tuner.adapter();
  CHECK(selected.tensors.size() == t.host.parameters().size());
  for (auto const* p : t.host.parameters()) {
    CAPTURE(p->name);
    std::vector<double> expected;
    for (auto const position : selected.tensors.at(p->name).positions)
      expected.push_back(dense.gradients[p->name][static_cast<std::size_t>(position)]);
    CHECK(difference(tuner.gradient(p->name), expected) < 1e-11);
  }
}

/// `tune` on the device of twins, without what it would compile for other selectors.
finetune_result tune_smallest(twins<float>& t, dataset const& data, finetune_settings const& how) {
  return detail::tune_selected(std::get<detail::small_weights>(detail::selector_of(how)), t.backend, t.device(), data,
                               how, {});
}

TEST_CASE("a device learns what the host learns, and draws what it draws") {
  auto how = quick();
  SUBCASE("the smallest weights") {}
  SUBCASE("with everything switched on") {
    how.reselect = "halfway";
    how.nuclear = 1e-3;
    how.images_limit = 5;
  }
  SUBCASE("all weights") { how.method = "full"; }
  twins<float> t{tiny(3)};
  auto const data = toy_data();
  auto const base = t.device_weights();
  auto const expected = fine_tune(t.backend, t.host, data, how, {});
  auto const got = tune_smallest(t, data, how);
  CHECK(got.steps == expected.steps);
  CHECK(got.selected == expected.selected);
  CHECK(got.tunable == expected.tunable);
  auto const learned = t.device_weights();
  double error = 0, moved = 0;
  for (auto const* p : t.host.parameters()) {
    CAPTURE(p->name);
    for (std::size_t i = 0; i < p->values.size(); ++i) {
      error += std::pow(static_cast<double>(learned[p->index][i] - p->values[i]), 2);
      moved += std::pow(static_cast<double>(p->values[i] - base[p->index][i]), 2);
    }
    auto const tensor = expected.adapter.tensors.find(p->name);
    if (tensor != expected.adapter.tensors.end())
      CHECK(got.adapter.tensors.at(p->name).positions == tensor->second.positions);
    else
      CHECK(learned[p->index] == base[p->index]);
  }
  // Adam turns a gradient that is nearly zero into a step of either sign, so a few weights part ways.
  CHECK(moved > 0);
  CHECK(std::sqrt(error / moved) < 1e-2);

  std::array<int, 1> const token{1};
  std::array<condition, 3> const asked{{{0, token}, {1, {}}, {null_class, token}}};
  std::array<std::uint64_t, 3> const seeds{1, 2, 3};
  for (auto* p : t.host.parameters()) p->values = learned[p->index];
  auto const here = sample(t.host, asked, seeds, {.steps = 3, .batch = 2});
  auto const there = sample(t.device(), asked, seeds, {.steps = 3, .batch = 3});
  REQUIRE(here.size() == there.size());
  for (std::size_t i = 0; i < here.size(); ++i) REQUIRE(std::abs(here[i] - there[i]) < 1e-4F);
}

TEST_CASE("a device learns with bfloat16 factors") {
  twins<float> narrow{tiny(3), true};
  auto const data = toy_data();
  auto how = quick();
  auto const loss_of = [&](auto& net) {
    noisy_batch<float> all;
    batch_stream{data, {.batch = 8, .seed = 9}}.fill(all, 0);
    basic_velocity_loss loss{net};
    auto const each = loss.evaluate(all, image_side);
    return std::accumulate(each.begin(), each.end(), 0.0);
  };
  auto const before = loss_of(narrow.device());
  auto const learned = tune_smallest(narrow, data, how);
  CHECK(learned.steps == 12);
  CHECK(loss_of(narrow.device()) < 0.9 * before);
}

}  // namespace
