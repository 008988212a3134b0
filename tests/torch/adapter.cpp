// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include <sara/adapter/file.hpp>
#include <sara/torch/adapter.hpp>

#include "../support/scratch.hpp"
#include "optimizers.hpp"

using sara::test::complaint;
using sara::test::different_weights;
using sara::test::two_layers;

namespace {

/// What a model learns in three steps.
sara::adapter learn(two_layers& model) {
  auto const optimizer = sara::test::make_optimizer(model, {.threshold = 0.1, .rate = {.rate = 0.02, .floor = 1}});
  for (int step = 0; step < 3; ++step) {
    model.forward(torch::randn({6, 12})).square().mean().backward();
    optimizer->step();
  }
  return optimizer->adapter();
}

}  // namespace

TEST_CASE("what was learned is saved, loaded, applied, scaled, merged and undone on modules") {
  torch::manual_seed(41);
  two_layers base, model;
  sara::test::copy_weights(base, model);
  auto const learned = learn(model);
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

TEST_CASE("parameters that an adapter does not name may be of any type") {
  torch::manual_seed(43);
  two_layers base, model;
  sara::test::copy_weights(base, model);
  auto const learned = learn(model);
  base.register_parameter("table", torch::ones({3}, torch::kLong), /*requires_grad=*/false);
  auto applied = sara::torch::apply(learned, base);
  CHECK(torch::allclose(base.fc1->weight, model.fc1->weight, 0, 1e-7));
  applied.undo();
  CHECK_FALSE(torch::equal(base.fc1->weight, model.fc1->weight));
}

TEST_CASE("an adapter is not rescaled or undone on a model that was converted or loaded since") {
  torch::manual_seed(42);
  two_layers base, trained;
  sara::test::copy_weights(base, trained);
  auto const learned = learn(trained);
  sara::test::scratch const folder;
  auto model = std::make_shared<two_layers>();
  for (bool const converted : {true, false}) {
    CAPTURE(converted);
    sara::test::copy_weights(base, *model);
    torch::save(model, folder / "model.pt");
    auto applied = sara::torch::apply(learned, *model);
    if (converted)
      model->to(torch::kBFloat16);
    else
      torch::load(model, folder / "model.pt");
    auto const weight = model->fc1->weight.detach().clone();
    std::string const now = converted ? "(BFloat16 on cpu)" : "(Float on cpu)";
    CHECK(complaint<sara::value_error>([&] { applied.rescale(0.5); }, {"'fc1.weight'", now, "undo()"}) == "");
    CHECK(complaint<sara::value_error>([&] { applied.undo(); }, {"'fc1.weight'", now, "undo()"}) == "");
    CHECK(torch::equal(model->fc1->weight, weight));
    model->to(torch::kFloat);
  }
}
