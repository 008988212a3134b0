// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <vector>

#include <sara/adapter/file.hpp>
#include <sara/torch/adapter.hpp>

#include "../support/scratch.hpp"
#include "optimizers.hpp"

using sara::test::complaint;
using sara::test::different_weights;
using sara::test::two_layers;

TEST_CASE("what was learned is saved, loaded, applied, scaled, merged and undone on modules") {
  torch::manual_seed(41);
  two_layers base, model;
  sara::test::copy_weights(base, model);
  sara::adapter learned;
  {
    auto const optimizer = sara::test::make_optimizer(model, {.threshold = 0.1, .rate = {.rate = 0.02, .floor = 1}});
    for (int step = 0; step < 3; ++step) {
      model.forward(torch::randn({6, 12})).square().mean().backward();
      optimizer->step();
    }
    learned = optimizer->adapter();
  }
  sara::test::scratch const folder;
  sara::save(learned, folder / "style.safetensors");
  two_layers other;
  sara::test::copy_weights(base, other);
  auto const version = other.fc1->weight._version();
  auto const graph = other.forward(torch::randn({2, 12})).sum();
  // [apply]
  auto applied = sara::torch::apply(sara::load_adapter(folder / "style.safetensors"), other);
  // [/apply]
  CHECK(other.fc1->weight._version() > version);
  CHECK(complaint<c10::Error>([&] { graph.backward(); }, {"inplace"}) == "");
  CHECK(torch::allclose(other.fc1->weight, model.fc1->weight, 0, 1e-7));
  CHECK(complaint<sara::base_error>([&] { static_cast<void>(sara::torch::apply(learned, other)); }) == "");
  applied.rescale(0.5);
  CHECK(torch::allclose(other.fc1->weight, (model.fc1->weight + base.fc1->weight) / 2, 0, 1e-7));
  applied.undo();
  CHECK(different_weights(other, base).empty());

  auto const both = sara::merge({{learned, 0.6}, {learned, 0.6}});
  static_cast<void>(sara::torch::apply(both, other));
  CHECK(torch::allclose(other.fc1->weight, base.fc1->weight + 1.2 * (model.fc1->weight - base.fc1->weight), 0, 1e-6));
}
