// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../support/scratch.hpp"
#include "optimizers.hpp"

namespace {

using sara::test::complaint;
using sara::test::different_weights;
using sara::test::make_optimizer;
using sara::test::scratch;
using sara::test::two_layers;

constexpr int all_steps = 12;

/// Everything that a state must bring back: the norm, a reselection after step 6, a falling rate, clipping.
sara::test::recipe<> const saved_settings{.threshold = 0.1,
                                          .lambda = 5e-3,
                                          .reselect = {6},
                                          .rate = {.rate = 0.02, .steps = all_steps},
                                          .clip = 0.3,
                                          .filter = {.exclude = {"fc2.bias"}}};

struct run {
  std::shared_ptr<two_layers> model = std::make_shared<two_layers>();
  std::unique_ptr<sara::torch::optimizer> optimizer;
  std::unique_ptr<torch::optim::StepLR> schedule;

  explicit run(two_layers const& start, at::ScalarType type) {
    sara::test::copy_weights(start, *model);
    model->to(type);
    optimizer = make_optimizer(*model, saved_settings);
    schedule = std::make_unique<torch::optim::StepLR>(*optimizer, 4, 0.5);
  }

  void backward(int step) {
    torch::manual_seed(static_cast<std::uint64_t>(step));
    auto const type = model->fc1->weight.scalar_type();
    auto const x = torch::randn({8, 12}).to(type);
    auto const y = torch::randn({8, 5});
    torch::mse_loss(model->forward(x).to(torch::kFloat), y).backward();
  }

  void train(int first, int last) {
    for (int step = first; step < last; ++step) {
      backward(step);
      optimizer->step();
      schedule->step();
    }
  }

  void save(scratch const& folder) const {
    // [save]
    torch::save(model, folder / "model.pt");
    torch::save(*optimizer, folder / "optimizer.pt");
    // [/save]
  }

  /// Goes on after `steps` steps of another run.
  void resume(scratch const& folder, int steps) {
    for (int step = 0; step < steps; ++step) schedule->step();  // libtorch's schedulers save nothing
    torch::load(*optimizer, folder / "optimizer.pt");           // the rate is in the state
  }
};

}  // namespace

TEST_CASE("torch::save and torch::load resume bit by bit, from saved or from base weights, between any two steps") {
  torch::manual_seed(11);
  two_layers const base;
  for (auto const type : {torch::kFloat, torch::kBFloat16}) {
    CAPTURE(type);
    run through{base, type};
    through.train(0, all_steps);
    for (int const stop : {1, 4, 6, 7, 11}) {
      for (bool const from_base : {false, true}) {
        CAPTURE(stop);
        CAPTURE(from_base);
        scratch const folder;
        {
          run first{base, type};
          first.train(0, stop);
          first.save(folder);
        }
        run second{base, type};
        if (!from_base) torch::load(second.model, folder / "model.pt");
        torch::load(*second.optimizer, folder / "optimizer.pt");
        CHECK(second.optimizer->steps() == stop);
        second.resume(folder, stop);
        second.train(stop, all_steps);
        CHECK(different_weights(*second.model, *through.model).empty());
      }
    }
  }
}

TEST_CASE("the usual order: load the model's weights, then make the optimizer, then load its state") {
  torch::manual_seed(12);
  two_layers const base;
  run through{base, torch::kFloat};
  through.train(0, all_steps);
  scratch const folder;
  {
    run first{base, torch::kFloat};
    first.train(0, 8);
    first.backward(8);  // a state with a gradient
    first.save(folder);
  }
  auto model = std::make_shared<two_layers>();
  torch::load(model, folder / "model.pt");
  run second{*model, torch::kFloat};
  second.resume(folder, 8);
  second.optimizer->step();
  second.schedule->step();
  second.train(9, all_steps);
  CHECK(different_weights(*second.model, *through.model).empty());
  CHECK(second.optimizer->adapter().tensors.at("fc1.weight").base_hash ==
        through.optimizer->adapter().tensors.at("fc1.weight").base_hash);
}

TEST_CASE("a state is loaded into a model that was converted after its optimizer was made") {
  torch::manual_seed(14);
  two_layers const base;
  run through{base, torch::kBFloat16};
  through.train(0, all_steps);
  scratch const folder;
  {
    run first{base, torch::kBFloat16};
    first.train(0, 4);
    first.save(folder);
  }
  run second{base, torch::kFloat};
  second.model->to(torch::kBFloat16);
  second.resume(folder, 4);
  second.backward(4);
  CHECK_FALSE(second.model->fc1->weight.grad().defined());
  second.optimizer->step();
  second.schedule->step();
  second.train(5, all_steps);
  CHECK(different_weights(*second.model, *through.model).empty());
}

TEST_CASE("a state that does not fit changes nothing") {
  torch::manual_seed(13);
  two_layers const base, other;
  scratch const folder;
  run first{base, torch::kFloat};
  first.train(0, 3);
  torch::save(*first.optimizer, folder / "optimizer.pt");

  run elsewhere{other, torch::kFloat};
  elsewhere.train(0, 2);
  two_layers before;
  sara::test::copy_weights(*elsewhere.model, before);
  CHECK(complaint<sara::base_error>([&] { torch::load(*elsewhere.optimizer, folder / "optimizer.pt"); },
                                    {"base weights"}) == "");
  CHECK(different_weights(*elsewhere.model, before).empty());
  CHECK(elsewhere.optimizer->steps() == 2);
  elsewhere.train(2, 4);  // and goes on

  two_layers wide{12, 30, 5};
  auto const of_wide = make_optimizer(wide, saved_settings);
  CHECK_THROWS_AS(torch::load(*of_wide, folder / "optimizer.pt"), sara::error);

  torch::optim::SGD plain{other.parameters(), 0.1};
  torch::save(plain, folder / "sgd.pt");
  CHECK(complaint<sara::file_error>([&] { torch::load(*first.optimizer, folder / "sgd.pt"); }, {"sara optimizer"}) ==
        "");
}

TEST_CASE("weights with other memory in the middle of a run are refused, until a state is loaded") {
  torch::manual_seed(14);
  two_layers const base;
  scratch const folder;
  run first{base, torch::kFloat};
  first.train(0, 3);
  torch::save(*first.optimizer, folder / "optimizer.pt");
  first.model->fc1->weight.set_data(first.model->fc1->weight.detach().clone());
  CHECK(complaint<sara::value_error>([&] { first.backward(3); }, {"'fc1.weight'", "torch::load"}) == "");
  torch::load(*first.optimizer, folder / "optimizer.pt");
  first.optimizer->zero_grad();
  first.train(3, all_steps);
  run through{base, torch::kFloat};
  through.train(0, all_steps);
  CHECK(different_weights(*first.model, *through.model).empty());
}

TEST_CASE("before the first backward pass adapter and state are of the weights as they are, after it of no others") {
  torch::manual_seed(15);
  two_layers const base;
  scratch const folder;
  auto const converted = [&] {
    run out{base, torch::kFloat};
    out.model->to(torch::kBFloat16);
    return out;
  };
  run made_later{base, torch::kBFloat16};
  auto const learned = converted().optimizer->adapter();
  for (auto const& [name, tensor] : made_later.optimizer->adapter().tensors) {
    CAPTURE(name);
    CHECK(learned.tensors.at(name).base_hash == tensor.base_hash);
    CHECK(learned.tensors.at(name).positions == tensor.positions);
  }
  CHECK(converted().optimizer->tensors()[0].type == sara::dtype::bfloat16);
  torch::save(*converted().optimizer, folder / "optimizer.pt");
  CHECK_NOTHROW(torch::load(*made_later.optimizer, folder / "optimizer.pt"));  // which knows its base weights

  run halved{base, torch::kFloat};
  halved.train(0, 2);
  halved.model->to(torch::kHalf);
  std::vector<std::string> const parts{"'fc1.weight'", "Half", "Float", "torch::load"};
  CHECK(complaint<sara::value_error>([&] { static_cast<void>(halved.optimizer->adapter()); }, parts) == "");
  CHECK(complaint<sara::value_error>([&] { torch::save(*halved.optimizer, folder / "half.pt"); }, parts) == "");
  CHECK(halved.optimizer->report().step == 2);  // what reads no weights is answered
}
