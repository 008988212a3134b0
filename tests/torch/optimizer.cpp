// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <sara/torch/adamw.hpp>
#include <sara/torch/modules.hpp>
#include <sara/update/sgd.hpp>

#include "../support/golden.hpp"
#include "optimizers.hpp"

namespace {

using sara::test::complaint;
using sara::test::difference;
using sara::test::elements_of;
using sara::test::golden;
using sara::test::make_grouped_optimizer;
using sara::test::make_optimizer;
using sara::test::two_layers;
using sara::test::where_small;
using recipe = sara::test::recipe<>;

/// A batch of its own for each step.
struct batch_of {
  explicit batch_of(std::int64_t step, at::ScalarType type = torch::kFloat) {
    torch::manual_seed(static_cast<std::uint64_t>(100 + step));
    x = torch::randn({9, 12}, type);
    y = torch::randn({9, 5}, type);
  }
  at::Tensor x, y;
};

at::Tensor backward(two_layers& model, batch_of const& batch, double scale = 1) {
  auto const loss = torch::mse_loss(model.forward(batch.x), batch.y) * scale;
  loss.backward();
  return loss;
}

/// The host, counting passes over entries, as a device with a number; that of the CPU is -1.
struct noting_host : sara::host {
  explicit noting_host(std::int64_t& to, int device = -1) : host{2}, passes{&to}, number{device} {}
  [[nodiscard]] int ordinal() const { return number; }
  template <class Jobs>
  void for_each(Jobs const& jobs) const {
    ++*passes;
    host::for_each(jobs);
  }
  std::int64_t* passes;
  int number;
};

/// A backend for weights that are not in the host's memory.
struct backend_elsewhere : sara::host {
  backend_elsewhere() : host{1} {}
  static constexpr sara::memory where = sara::memory::cuda;
};

}  // namespace

TEST_CASE("the one changed line") {
  torch::manual_seed(1);
  auto const model = std::make_shared<two_layers>();
  // [one_line]
  sara::torch::adamw optimizer{*model, {.threshold = 2e-2}};
  // [/one_line]
  CHECK(optimizer.learning() > 10);
  auto const rate = 1e-3 * std::exp(-350 * 2e-2);
  CHECK(optimizer.param_groups()[0].options().get_lr() == doctest::Approx(rate).epsilon(1e-5));  // θ is a float32
  two_layers before;
  sara::test::copy_weights(*model, before);
  optimizer.zero_grad();
  backward(*model, batch_of{0});
  optimizer.step();
  auto const& now = model->fc1->weight;
  auto const& then = before.fc1->weight;
  auto const small = then.abs() < 2e-2;
  CHECK(torch::equal(now.masked_select(~small), then.masked_select(~small)));
  CHECK(now.ne(then).masked_select(small).all().item<bool>());
  CHECK(optimizer.report().step == 1);
  CHECK(optimizer.report().rate == doctest::Approx(rate).epsilon(1e-5));
}

TEST_CASE("60 steps of a network, as the reference took them") {
  auto const& file = golden("sara_mlp.safetensors");
  auto const hyper = file.read<double>("hyper");
  for (bool const in_float64 : {true, false}) {
    CAPTURE(in_float64);
    auto const type = in_float64 ? torch::kDouble : torch::kFloat;
    sara::test::tolerance const for_values{in_float64 ? 1e-9 : 5e-6, 0};
    auto const given = [&](std::string const& name, at::IntArrayRef shape) {
      auto values = file.read<float>(name);
      return torch::from_blob(values.data(), shape).to(type).clone();
    };
    auto const x = given("x", {64, 12});
    auto const y = given("y", {64, 5});
    for (std::string const run : {"plain", "prog", "full"}) {
      CAPTURE(run);
      two_layers model;
      model.to(type);
      {
        torch::NoGradGuard const no_grad;
        for (auto& p : model.named_parameters()) p.value().copy_(given("init." + p.key(), p.value().sizes()));
      }
      two_layers start;
      start.to(type);
      sara::test::copy_weights(model, start);
      bool const switches = run != "plain";
      auto const optimizer =
          make_optimizer(model,
                         {.threshold = hyper[0],
                          .lambda = run == "full" ? hyper[6] : 0,
                          .min_side = 12,  // fc1.weight alone
                          .reselect = switches ? std::vector<std::int64_t>{30} : std::vector<std::int64_t>{},
                          .rule = {.beta1 = hyper[2], .beta2 = hyper[3], .epsilon = hyper[4], .weight_decay = hyper[5]},
                          .rate = {.rate = hyper[1], .steps = 60},
                          .threads = 2},
                         in_float64);
      std::vector<double> losses, rates;
      for (int t = 1; t <= 60; ++t) {
        CAPTURE(t);
        auto const loss = torch::mse_loss(model.forward(x), y);
        losses.push_back(loss.item<double>());
        loss.backward();
        optimizer->step();
        auto const report = optimizer->report();
        CHECK(report.reselected == (switches && t == 30));
        rates.push_back(report.rate);
        if (t % 10 != 0) continue;
        for (auto const& p : model.named_parameters()) {
          auto const all = file.read<double>(run + ".values." + p.key());
          auto const selected =
              elements_of<double>(p.value().masked_select(start.named_parameters()[p.key()].abs() < hyper[0]));
          auto const row = t / 10 * std::ssize(selected);
          CHECK(difference(selected, std::vector<double>(all.begin() + row, all.begin() + row + std::ssize(selected)),
                           for_values) == "");
        }
      }
      CHECK(difference(losses, file.read<double>(run + ".loss"), {in_float64 ? 1e-9 : 0, in_float64 ? 0 : 5e-6}) == "");
      CHECK(difference(rates, file.read<double>("lr"), {0, 1e-12}) == "");
      for (auto const& p : model.named_parameters()) {  // nothing else has moved
        auto const then = start.named_parameters()[p.key()];
        CHECK(p.value().ne(then).logical_and(then.abs() >= hyper[0]).any().item<bool>() == false);
      }
    }
  }
}

TEST_CASE("masked gradients through torch::optim::AdamW in float64 give the same trajectory") {
  torch::manual_seed(5);
  two_layers masked;
  masked.to(torch::kDouble);
  two_layers sampled;
  sampled.to(torch::kDouble);
  sara::test::copy_weights(masked, sampled);
  std::vector<at::Tensor> masks;
  for (auto const& p : masked.parameters()) masks.push_back((p.detach().abs() < 0.1).to(torch::kDouble));
  // no decay: it would move the frozen weights of the masked model
  torch::optim::AdamW dense{masked.parameters(), torch::optim::AdamWOptions(3e-3).weight_decay(0)};
  auto const optimizer = make_optimizer(
      sampled, {.threshold = 0.1, .rule = {.weight_decay = 0}, .rate = {.rate = 3e-3, .floor = 1}}, true);
  torch::optim::StepLR schedule{dense, 4, 0.5};
  torch::optim::StepLR same_schedule{*optimizer, 4, 0.5};
  for (int step = 0; step < 20; ++step) {
    batch_of const batch{step, torch::kDouble};
    dense.zero_grad();
    backward(masked, batch);
    auto const parameters = masked.parameters();
    for (std::size_t i = 0; i < masks.size(); ++i) parameters[i].mutable_grad().mul_(masks[i]);
    dense.step();
    schedule.step();
    optimizer->zero_grad();
    backward(sampled, batch);
    optimizer->step();
    same_schedule.step();
  }
  CHECK(optimizer->param_groups()[0].options().get_lr() == dense.param_groups()[0].options().get_lr());
  CHECK(optimizer->param_groups()[0].options().get_lr() < 1e-3);
  for (std::size_t i = 0; i < masks.size(); ++i) {
    CAPTURE(i);
    CHECK(torch::allclose(masked.parameters()[i], sampled.parameters()[i], 0, 1e-13));
    CHECK(masks[i].sum().item<double>() > 0);
  }
}

TEST_CASE("two backward passes before a step add up to one of both batches") {
  two_layers twice, once;
  sara::test::copy_weights(twice, once);
  recipe const settings{.threshold = 0.1, .rate = {.rate = 0.01, .floor = 1}};
  auto const of_twice = make_optimizer(twice, settings);
  auto const of_once = make_optimizer(once, settings);
  batch_of const a{1}, b{2};
  backward(twice, a, 0.5);
  backward(twice, b, 0.5);
  batch_of both{3};
  both.x = torch::cat({a.x, b.x});
  both.y = torch::cat({a.y, b.y});
  backward(once, both);
  CHECK(difference(of_twice->gradient("fc1.weight"), of_once->gradient("fc1.weight"), {1e-7, 1e-5}) == "");
  of_twice->step();
  of_once->step();
  CHECK(torch::allclose(twice.fc1->weight, once.fc1->weight, 0, 1e-6));
}

TEST_CASE("gradients are clipped to a norm over all of what learns") {
  two_layers model;
  auto const optimizer = make_optimizer(
      model, {.threshold = 0.1, .rule = {.weight_decay = 0}, .rate = {.rate = 0.01, .floor = 1}, .clip = 1e-3});
  two_layers other;
  sara::test::copy_weights(model, other);
  auto const scaled =
      make_optimizer(other, {.threshold = 0.1, .rule = {.weight_decay = 0}, .rate = {.rate = 0.01, .floor = 1}});
  for (int step = 0; step < 3; ++step) {
    backward(model, batch_of{step});
    double squares = 0;
    for (auto const& p : model.named_parameters())
      for (auto const g : optimizer->gradient(p.key())) squares += g * g;
    REQUIRE(std::sqrt(squares) > 1e-3);
    backward(other, batch_of{step}, 1e-3 / std::sqrt(squares));
    optimizer->step();
    CHECK(optimizer->report().gradient_norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-5));
    scaled->step();
  }
  CHECK(torch::allclose(model.fc1->weight, other.fc1->weight, 0, 1e-5));
  two_layers start;
  CHECK(sara::test::different_weights(model, start).size() == 4);
}

TEST_CASE("updates in the backward pass give the bits of updates in the step, at the rates that schedulers set") {
  for (bool const sampled : {false, true}) {
    CAPTURE(sampled);
    auto const run = [&](bool in_backward) {
      torch::manual_seed(5);
      auto const model = std::make_shared<torch::nn::Sequential>();
      // The first layer is used twice, and others between.
      auto const shared = torch::nn::Linear(12, 12);
      (*model)->push_back(shared);
      (*model)->push_back(torch::nn::Tanh());
      (*model)->push_back(torch::nn::Linear(12, 12));
      (*model)->push_back(torch::nn::Tanh());
      (*model)->push_back(shared);
      (*model)->push_back(torch::nn::Linear(12, 5));
      if (sampled) sara::torch::sample_layers(**model);
      auto const optimizer = make_optimizer(**model, {.lambda = 0.01,
                                                      .min_side = 12,
                                                      .reselect = {2},
                                                      .rate = {.rate = 0.02, .steps = 5},
                                                      .in_backward = in_backward});
      torch::optim::StepLR halves{*optimizer, 1, 0.5};
      std::vector<double> facts;
      std::vector<at::Tensor> weights;
      for (int step = 0; step < 4; ++step) {
        optimizer->zero_grad();
        batch_of const batch{step};
        torch::mse_loss((*model)->forward(batch.x), batch.y).backward();
        optimizer->step();
        auto const report = optimizer->report();
        for (auto const fact : {report.rate, report.regularizer_loss, report.gradient_norm}) facts.push_back(fact);
        halves.step();
        for (auto const& p : (*model)->parameters()) weights.push_back(p.detach().clone());
      }
      auto const held = optimizer->memory().columns;
      return std::tuple{weights, facts, held};
    };
    auto const [weights, facts, held] = run(true);
    auto const [expected, expected_facts, expected_held] = run(false);
    CHECK(difference(facts, expected_facts, {1e-12, 0}) == "");
    REQUIRE(weights.size() == expected.size());
    for (std::size_t i = 0; i < weights.size(); ++i) CHECK(torch::equal(weights[i], expected[i]));
    CHECK(held < expected_held);
  }
}

TEST_CASE("leaves over one memory are moved in the step, whoever comes first") {
  auto const run = [](bool in_backward) {
    torch::manual_seed(8);
    auto const a = torch::randn({6, 6}).mul_(0.1).requires_grad_();
    auto const b = a.detach().requires_grad_();
    sara::torch::named_tensors const weights{{"a", a}, {"b", b}};
    auto const optimizer = make_optimizer(weights, {.in_backward = in_backward});
    for (int step = 0; step < 3; ++step) {
      auto const x = torch::randn({4, 6});
      x.matmul(a).tanh().matmul(b).square().mean().backward();
      optimizer->step();
    }
    return a.detach().clone();
  };
  CHECK(torch::equal(run(true), run(false)));
}

TEST_CASE("what an update in the backward pass refuses") {
  two_layers model;
  CHECK(complaint<sara::value_error>([&] { make_optimizer(model, {.clip = 1, .in_backward = true}); },
                                     {"update_in_backward", "clip_norm"}) == "");
  auto const optimizer = make_optimizer(model, {.in_backward = true});
  two_layers base;
  sara::test::copy_weights(model, base);
  batch_of const batch{0};
  auto const loss = torch::mse_loss(model.forward(batch.x), batch.y);
  loss.backward({}, /*retain_graph=*/true);
  CHECK_THROWS_AS(loss.backward(), c10::Error);  // the graph's weights are no longer there
  CHECK(complaint<sara::value_error>([&] { backward(model, batch_of{1}); }, {"'fc2", "step()"}) == "");
  optimizer->zero_grad();  // too late for what has been moved: it is not selected anew
  auto const delta = optimizer->adapter().tensors.at("fc2.weight");
  CHECK(delta.base_hash == make_optimizer(base)->adapter().tensors.at("fc2.weight").base_hash);
  CHECK(std::get<std::vector<float>>(delta.delta) != std::vector<float>(delta.positions.size()));
  optimizer->step();
  optimizer->param_groups()[0].options().set_lr(-1);
  CHECK(complaint<sara::value_error>([&] { backward(model, batch_of{1}); }, {"learning rate", "-1"}) == "");
}

TEST_CASE("a closure computes the loss with gradients on, and zero_grad forgets") {
  two_layers model, same;
  sara::test::copy_weights(model, same);
  recipe const settings{.threshold = 0.1, .rate = {.rate = 0.01, .floor = 1}};
  auto const optimizer = make_optimizer(model, settings);
  auto const of_same = make_optimizer(same, settings);
  backward(model, batch_of{7});  // to be forgotten
  model.fc1->bias.mutable_grad() = torch::ones({24});
  torch::NoGradGuard const no_grad;
  auto const loss = optimizer->step([&] {
    optimizer->zero_grad();
    return backward(model, batch_of{1});
  });
  {
    torch::AutoGradMode const with_gradients{true};
    CHECK(loss.item<double>() == doctest::Approx(backward(same, batch_of{1}).item<double>()));
  }
  of_same->step();
  CHECK(sara::test::different_weights(model, same).empty());
}

namespace {

/// One matrix under two names, one that is frozen, and one that no loss sees.
struct odd_network : torch::nn::Module {
  odd_network() {
    a = register_parameter("a", torch::randn({6, 6}));
    register_parameter("b", a);
    frozen = register_parameter("frozen", torch::randn({6, 6}), /*requires_grad=*/false);
    unused = register_parameter("unused", torch::randn({6, 6}));
  }
  at::Tensor loss(at::Tensor const& x) {
    auto const hidden = torch::tanh(torch::linear(torch::tanh(torch::linear(x, a)), frozen));
    return torch::linear(hidden, a).square().mean();
  }
  at::Tensor a, frozen, unused;
};

}  // namespace

TEST_CASE("frozen weights are left alone, tied ones are one, and without gradient nothing moves") {
  torch::manual_seed(6);
  odd_network model, start;
  sara::test::copy_weights(model, start);
  auto const optimizer = make_optimizer(model, {.threshold = 0.5, .rate = {.rate = 0.01, .floor = 1}});
  CHECK(optimizer->tensors().size() == 2);
  CHECK(optimizer->param_groups()[0].params().size() == 2);
  auto const x = torch::randn({5, 6});
  start.loss(x).backward();
  model.loss(x).backward();
  auto const expected = where_small(start.a.grad(), start.a, 0.5);
  CHECK(difference(optimizer->gradient("a"), expected, {1e-7, 1e-5}) == "");
  CHECK(difference(optimizer->gradient("b"), expected, {1e-7, 1e-5}) == "");
  optimizer->step();
  CHECK(sara::test::different_weights(model, start) == std::vector<std::string>{"a", "b"});
  CHECK_FALSE(model.frozen.grad().defined());
}

TEST_CASE("a weight that is frozen later stays, low-rank loss or not, until it is thawed") {
  two_layers model, start;
  auto const optimizer = make_optimizer(model, {.threshold = 0.1, .lambda = 0.1, .rate = {.rate = 0.01, .floor = 1}});
  model.fc1->weight.requires_grad_(false);
  for (int step = 0; step < 2; ++step) {
    sara::test::copy_weights(model, start);
    backward(model, batch_of{step});
    optimizer->step();
    CHECK(sara::test::different_weights(model, start) ==
          std::vector<std::string>{"fc1.bias", "fc2.weight", "fc2.bias"});
  }
  model.fc1->weight.requires_grad_(true);
  sara::test::copy_weights(model, start);
  backward(model, batch_of{3});
  optimizer->step();
  CHECK(sara::test::different_weights(model, start).size() == 4);
}

TEST_CASE("a weight that is thawed gets the gradient of its first backward pass") {
  two_layers model, dense;
  sara::test::copy_weights(model, dense);
  auto const optimizer = make_optimizer(model, {.threshold = 0.1, .rate = {.rate = 0, .floor = 1}});
  model.fc1->weight.requires_grad_(false);
  backward(model, batch_of{0});
  optimizer->step();
  model.fc1->weight.requires_grad_(true);
  backward(model, batch_of{1});
  backward(dense, batch_of{1});
  CHECK(difference(optimizer->gradient("fc1.weight"), where_small(dense.fc1->weight.grad(), dense.fc1->weight, 0.1),
                   {1e-7, 1e-5}) == "");
}

TEST_CASE("a group may list a tied tensor under each of its names") {
  odd_network model;
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(model.parameters());
  auto const optimizer = make_grouped_optimizer(model, groups, {.threshold = 0.5});
  CHECK(optimizer->param_groups()[0].params().size() == 2);
  groups.emplace_back(std::vector<at::Tensor>{model.a});
  CHECK(complaint<sara::value_error>(
            [&] { static_cast<void>(make_grouped_optimizer(model, groups, {.threshold = 0.5})); },
            {"'a'", "one group", "0 and 1"}) == "");
}

TEST_CASE("a filter takes a tied tensor by all of its names or by none") {
  odd_network model;
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(model.parameters());
  for (std::string const left_out : {"a", "b"}) {
    recipe const r{.threshold = 0.5, .filter = {.exclude = {left_out}}};
    std::vector<std::string> const parts{"'b' and 'a' share memory", left_out == "a" ? "got 'b' alone" : "got 'a'"};
    CHECK(complaint<sara::value_error>([&] { static_cast<void>(make_optimizer(model, r)); }, parts) == "");
    CHECK(complaint<sara::value_error>([&] { static_cast<void>(make_grouped_optimizer(model, groups, r)); }, parts) ==
          "");
  }
  CHECK(make_optimizer(model, {.threshold = 0.5, .filter = {.exclude = {"a", "b"}}})->tensors().size() == 1);
}

TEST_CASE("settings of any group are checked before anything moves") {
  two_layers model;
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(model.fc1->parameters());
  groups.emplace_back(model.fc2->parameters(), std::make_unique<sara::torch::group_options>(
                                                   sara::torch::group_options{}.rule(sara::adamw{.beta1 = 1.5})));
  CHECK(complaint<sara::value_error>(
            [&] { static_cast<void>(make_grouped_optimizer(model, groups, {.threshold = 0.1})); }, {"beta"}) == "");
  auto const optimizer = make_optimizer(model, {.threshold = 0.1});
  optimizer->param_groups()[0].options().set_lr(-1);
  CHECK(complaint<sara::value_error>([&] { optimizer->step(); }, {"learning rate", "group 0", "-1"}) == "");
}

TEST_CASE("parameter groups have learning rates and settings of their own") {
  two_layers model, alone;
  sara::test::copy_weights(model, alone);
  auto const options = [](double rate, double decay) {
    return std::make_unique<sara::torch::group_options>(
        sara::torch::group_options{}.lr(rate).rule(sara::adamw{.weight_decay = decay}));
  };
  // [groups]
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(model.fc1->parameters(), options(1e-2, 0.3));
  groups.emplace_back(std::vector<at::Tensor>{model.fc2->weight});  // with the optimizer's settings
  // [/groups]
  recipe const common{.threshold = 0.1, .rule = {.weight_decay = 0.1}, .rate = {.rate = 0.02, .floor = 1}};
  auto const optimizer = make_grouped_optimizer(model, groups, common);
  recipe first{.threshold = 0.1, .rule = {.weight_decay = 0.3}, .rate = {.rate = 1e-2, .floor = 1}};
  first.filter = {.include = {"fc1.*"}};
  recipe second = common;
  second.filter = {.include = {"fc2.weight"}};
  auto const of_first = make_optimizer(alone, first);
  auto const of_second = make_optimizer(alone, second);
  CHECK(optimizer->tensors().size() == 3);
  torch::optim::StepLR schedule{*optimizer, 2, 0.1};
  torch::optim::StepLR first_schedule{*of_first, 2, 0.1};
  torch::optim::StepLR second_schedule{*of_second, 2, 0.1};
  for (int step = 0; step < 5; ++step) {
    backward(model, batch_of{step});
    backward(alone, batch_of{step});
    optimizer->step();
    of_first->step();
    of_second->step();
    schedule.step();
    first_schedule.step();
    second_schedule.step();
    CHECK(model.fc2->bias.grad().defined());  // in no group: nobody's business here
  }
  CHECK(optimizer->param_groups()[0].options().get_lr() == doctest::Approx(1e-4));
  CHECK(optimizer->param_groups()[1].options().get_lr() == doctest::Approx(2e-4));
  CHECK(sara::test::different_weights(model, alone).empty());
}

TEST_CASE("groups that do not fit are refused") {
  two_layers model;
  using groups = std::vector<torch::optim::OptimizerParamGroup>;
  auto const make = [&](groups const& g) { return [&, g] { make_grouped_optimizer(model, g); }; };
  torch::optim::OptimizerParamGroup const weight{{model.fc1->weight}};
  CHECK(complaint<sara::name_error>(make({{{torch::ones({2}, torch::requires_grad())}}}),
                                    {"parameters of the model in group 0"}) == "");
  CHECK(complaint<sara::value_error>(make({weight, weight}), {"'fc1.weight' in one group"}) == "");
  CHECK(complaint<sara::value_error>(make({{{model.fc1->weight}, std::make_unique<torch::optim::SGDOptions>(0.1)}}),
                                     {"group_options"}) == "");
  CHECK(complaint<sara::value_error>(
            make({{{model.fc1->weight},
                   std::make_unique<sara::torch::group_options>(sara::torch::group_options{}.rule(sara::sgd{}))}}),
            {"group's rule", "type"}) == "");
  auto const optimizer = make_optimizer(model);
  optimizer->add_param_group({{torch::ones({2}, torch::requires_grad())}});
  CHECK(complaint<sara::value_error>([&] { optimizer->step(); }, {"parameters that it was made with"}) == "");
}

namespace {

void backward_in_bfloat16(two_layers& model, batch_of const& batch) {
  torch::mse_loss(model.forward(batch.x.to(torch::kBFloat16)).to(torch::kFloat), batch.y).backward();
}

}  // namespace

TEST_CASE("model->to before the first backward pass starts anew, afterwards it is refused") {
  two_layers model;
  auto const optimizer = make_optimizer(model, {.threshold = 0.1, .rate = {.rate = 0.01, .floor = 1}});
  model.to(torch::kBFloat16);
  backward_in_bfloat16(model, batch_of{0});
  two_layers start;
  start.to(torch::kBFloat16);
  sara::test::copy_weights(model, start);
  optimizer->step();
  CHECK(sara::test::different_weights(model, start).size() == 4);
  CHECK(optimizer->tensors()[0].type == sara::dtype::bfloat16);
  backward_in_bfloat16(model, batch_of{0});
  CHECK_FALSE(model.fc1->weight.grad().defined());  // the new weights have nodes too
  model.to(torch::kFloat);
  CHECK(complaint<sara::value_error>([&] { optimizer->step(); }, {"fc", "Float", "BFloat16", "model->to()"}) == "");
}

TEST_CASE("weights that are changed in place before the first backward pass are selected anew") {
  two_layers model;
  auto const optimizer = make_optimizer(model, {.threshold = 0.1, .rate = {.rate = 0.01, .floor = 1}});
  REQUIRE(optimizer->gradient("fc1.weight").size() < 24 * 12);
  {
    torch::NoGradGuard const no_grad;
    model.fc1->weight.mul_(1e-3);  // as torch::load of the model does
  }
  backward(model, batch_of{0});
  CHECK(optimizer->gradient("fc1.weight").size() == 24 * 12);
  CHECK_FALSE(model.fc1->weight.grad().defined());
  optimizer->step();
  {
    torch::NoGradGuard const no_grad;
    model.fc1->weight.mul_(1e3);
  }
  backward(model, batch_of{0});  // in the middle of a run it is the user's business
  CHECK(optimizer->gradient("fc1.weight").size() == 24 * 12);
}

TEST_CASE("a rate that follows from the selection follows the one that starts anew, unless somebody has set another") {
  two_layers model;
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(model.fc1->parameters());
  groups.emplace_back(model.fc2->parameters());
  auto const optimizer = make_grouped_optimizer(model, groups, {.threshold = 2e-3, .rate = {.floor = 1}});
  auto const rate = [&](std::size_t group) { return optimizer->param_groups()[group].options().get_lr(); };
  auto const before = rate(0);
  CHECK(std::abs(before - sara::rate_for_threshold(2e-3)) < 1e-9);
  optimizer->param_groups()[1].options().set_lr(1e-3);
  model.to(torch::kBFloat16);
  CHECK(optimizer->tensors()[0].type == sara::dtype::bfloat16);
  auto const anew = sara::rate_for_threshold(static_cast<double>(sara::widen(sara::bfloat16{2e-3F})));
  CHECK(std::abs(anew - before) > 1e-7);
  CHECK(std::abs(rate(0) - anew) < 1e-12);
  CHECK(rate(1) == 1e-3);
  optimizer->step();
  CHECK(optimizer->report().rate == rate(0));
}

TEST_CASE("small updates of bfloat16 weights add up in float32 masters") {
  two_layers model, wide;
  model.to(torch::kBFloat16);
  sara::test::copy_weights(model, wide);
  recipe const settings{.threshold = 0.1, .rule = {.weight_decay = 0}, .rate = {.rate = 1e-5, .floor = 1}};
  auto const optimizer = make_optimizer(model, settings);
  auto const of_wide = make_optimizer(wide, settings);
  batch_of const batch{0};
  for (int step = 0; step < 40; ++step) {
    backward_in_bfloat16(model, batch);
    backward(wide, batch);
    optimizer->step();
    of_wide->step();
  }
  auto const small = wide.fc2->weight.abs() < 0.05;
  auto const moved = (model.fc2->weight.to(torch::kFloat) - wide.fc2->weight).abs().masked_select(small);
  CHECK(moved.max().item<float>() < 2.5e-4);  // half a bfloat16 step at 0.05 is 1.2e-4; one update is 1e-5
}

TEST_CASE("settings that contradict each other are refused") {
  two_layers model;
  CHECK(complaint<sara::value_error>([&] { make_optimizer(model, {.threshold = -1}); }, {"threshold"}) == "");
  CHECK(complaint<sara::dtype_error>(
            [&] {
              model.to(torch::kDouble);
              make_optimizer(model);
            },
            {"compute_in<double>"}) == "");
  model.to(torch::kFloat);
  CHECK(complaint<sara::value_error>([&] { sara::torch::adamw const o{model, {.beta1 = 1.5}}; }, {"beta"}) == "");
  auto const elsewhere = torch::empty({2, 2}, torch::dtype(torch::kFloat).device(torch::kMeta).requires_grad(true));
  CHECK(complaint<sara::memory_error>(
            [&] {
              sara::torch::adamw const o{sara::torch::named_tensors{{"w", elsewhere}}};
            },
            {"CPU", "meta"}) == "");
}

TEST_CASE("another backend computes instead of the host") {
  std::int64_t passes = 0;
  auto const learned = [&](auto const&... backend) {
    torch::manual_seed(7);
    two_layers model;
    sara::torch::adamw optimizer{model, {.threshold = 0.1, .lr = 0.01}, backend...};
    for (int step = 0; step < 3; ++step) {
      backward(model, batch_of{step});
      optimizer.step();
    }
    return model.fc1->weight.detach().clone();
  };
  auto const expected = learned();
  CHECK(passes == 0);
  CHECK(torch::equal(learned(noting_host{passes}), expected));
  CHECK(passes > 3);

  two_layers model;
  CHECK(complaint<sara::memory_error>(
            [&] {
              sara::torch::adamw const o{model, {}, backend_elsewhere{}};
            },
            {"'fc1.weight'", "CUDA device", "host"}) == "");
  CHECK(complaint<sara::memory_error>(
            [&] {
              sara::torch::adamw const o{model, {.threshold = 0.1, .lr = 0.01}, noting_host{passes, 1}};
            },
            {"'fc1.weight'", "device 1", "cpu"}) == "");
}
