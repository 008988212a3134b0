// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/torch.h>

#include <memory>
#include <sstream>
#include <thread>
#include <vector>

#include "optimizers.hpp"

// What else sees that a weight's gradient accumulator is not libtorch's: each case asks one of them.

namespace {

using sara::test::complaint;
using sara::test::difference;
using sara::test::make_optimizer;
using sara::test::two_layers;
using sara::test::where_small;

sara::test::recipe<> const gathered_settings{.threshold = 0.1, .rate = {.rate = 0.05, .floor = 1}};

at::Tensor loss_of(two_layers& model, at::Tensor const& x) { return model.forward(x).square().mean(); }

/// The dense gradient of fc1.weight, by a model of the same weights that nobody trains.
at::Tensor dense_gradient(two_layers const& like, at::Tensor const& x) {
  two_layers plain;
  sara::test::copy_weights(like, plain);
  loss_of(plain, x).backward();
  return plain.fc1->weight.grad();
}

struct gathered_model {
  two_layers model;
  at::Tensor x = (torch::manual_seed(3), torch::randn({7, 12}));
  std::unique_ptr<sara::torch::optimizer> optimizer = make_optimizer(model, gathered_settings);

  /// What the optimizer has of fc1.weight, against `times` dense gradients.
  [[nodiscard]] std::string gathered(at::Tensor const& dense, double times = 1) const {
    return difference(optimizer->gradient("fc1.weight"),
                      where_small(dense * times, model.fc1->weight, gathered_settings.threshold), {1e-7, 1e-5});
  }
};

}  // namespace

TEST_CASE_FIXTURE(gathered_model, "weights stay leaves without .grad, and their gradients are gathered") {
  auto const expected = dense_gradient(model, x);
  loss_of(model, x).backward();
  for (auto const& p : model.named_parameters()) {
    CAPTURE(p.key());
    CHECK(p.value().is_leaf());
    CHECK(p.value().requires_grad());
    CHECK(p.value().grad_fn() == nullptr);
    CHECK_FALSE(p.value().grad().defined());
  }
  CHECK(gathered(expected) == "");
  loss_of(model, x).backward();  // another backward pass adds
  CHECK(gathered(expected, 2) == "");
  CHECK(model.parameters().size() == 4);
}

TEST_CASE_FIXTURE(gathered_model, "no graph is made without grad mode, and a weight may be read and written there") {
  auto const before = model.fc1->weight._version();
  {
    torch::NoGradGuard const no_grad;
    CHECK_FALSE(loss_of(model, x).requires_grad());
    model.fc1->bias.mul_(0.5);
    model.fc1->weight.add_(0);
  }
  CHECK(model.fc1->weight._version() == before + 1);
  CHECK(complaint<c10::Error>([&] { model.fc1->weight.mul_(2); }, {"leaf Variable"}) == "");  // as for any leaf
  auto const expected = dense_gradient(model, x);
  loss_of(model, x).backward();
  CHECK(gathered(expected) == "");
}

TEST_CASE_FIXTURE(gathered_model, "a step counts as a change in place: a graph from before is refused") {
  auto const loss = loss_of(model, x);
  loss.backward({}, /*keep_graph=*/true);
  optimizer->step();
  CHECK(complaint<c10::Error>([&] { loss.backward(); }, {"modified by an inplace operation"}) == "");
}

TEST_CASE_FIXTURE(gathered_model, "torch::autograd::grad gets the dense gradient and leaves the optimizer's alone") {
  auto const expected = dense_gradient(model, x);
  auto const loss = loss_of(model, x);
  auto const got = torch::autograd::grad({loss}, {model.fc1->weight}, {}, /*retain_graph=*/true)[0];
  CHECK(torch::allclose(got, expected));
  CHECK(gathered(expected, 0) == "");
  torch::autograd::backward({loss}, {}, false, false, {model.fc1->weight});
  CHECK(gathered(expected) == "");
  CHECK(difference(optimizer->gradient("fc2.weight"), std::vector<double>(optimizer->gradient("fc2.weight").size()),
                   {}) == "");
}

TEST_CASE_FIXTURE(gathered_model, "double backward: a gradient penalty reaches the weights") {
  auto const penalty = [](two_layers& m, at::Tensor const& input) {
    auto const in = input.clone().requires_grad_();
    auto const slope = torch::autograd::grad({m.forward(in).sum()}, {in}, {}, true, /*create_graph=*/true)[0];
    return slope.square().sum();
  };
  two_layers plain;
  sara::test::copy_weights(model, plain);
  penalty(plain, x).backward();
  penalty(model, x).backward();
  CHECK(gathered(plain.fc1->weight.grad()) == "");
  optimizer->zero_grad();
  loss_of(model, x).backward({}, false, /*create_graph=*/true);  // gradients of gradients are not kept
  CHECK(gathered(dense_gradient(model, x)) == "");
  CHECK_FALSE(model.fc1->weight.grad().defined());
}

TEST_CASE_FIXTURE(gathered_model, "hooks of a leaf see and change its gradient") {
  auto const expected = dense_gradient(model, x);
  int calls = 0;
  auto const hook = model.fc1->weight.register_hook([&](at::Tensor const& gradient) {
    ++calls;
    return gradient * 3;
  });
  loss_of(model, x).backward();
  CHECK(calls == 1);
  CHECK(gathered(expected, 3) == "");
  model.fc1->weight.remove_hook(hook);
}

TEST_CASE_FIXTURE(gathered_model, "a clone is a model of its own with dense gradients") {
  struct cloneable : torch::nn::Cloneable<cloneable> {
    cloneable() { reset(); }
    void reset() override { fc = register_module("fc", torch::nn::Linear(12, 5)); }
    torch::nn::Linear fc{nullptr};
  } original;
  auto const its_optimizer = make_optimizer(original, gathered_settings);
  auto const copy = std::dynamic_pointer_cast<cloneable>(original.clone());
  copy->fc->forward(x).sum().backward();
  CHECK(copy->fc->weight.is_leaf());
  CHECK(copy->fc->weight.grad().defined());
  CHECK_FALSE(original.fc->weight.grad().defined());
  CHECK(difference(its_optimizer->gradient("fc.weight"),
                   std::vector<double>(its_optimizer->gradient("fc.weight").size()), {}) == "");
  its_optimizer->step();
  CHECK(sara::test::different_weights(original, *copy).empty());
}

TEST_CASE_FIXTURE(gathered_model, "a model is saved and loaded as any other") {
  std::stringstream file;
  torch::serialize::OutputArchive out;
  model.save(out);
  out.save_to(file);
  two_layers other;
  torch::serialize::InputArchive in;
  in.load_from(file);
  other.load(in);
  CHECK(sara::test::different_weights(model, other).empty());
}

TEST_CASE_FIXTURE(gathered_model, "libtorch's optimizers take the weights, and find no gradient to move them by") {
  two_layers start;
  sara::test::copy_weights(model, start);
  torch::optim::SGD dense{model.parameters(), 0.1};
  loss_of(model, x).backward();
  dense.step();
  CHECK(sara::test::different_weights(model, start).empty());
}

TEST_CASE_FIXTURE(gathered_model, "when the optimizer is gone the weights are ordinary again") {
  auto const expected = dense_gradient(model, x);
  auto const from_before = loss_of(model, x);
  optimizer.reset();
  from_before.backward();  // its graph still has the nodes
  CHECK(torch::allclose(model.fc1->weight.grad(), expected));
  loss_of(model, x).backward();
  CHECK(torch::allclose(model.fc1->weight.grad(), 2 * expected));
}

TEST_CASE_FIXTURE(gathered_model,
                  "a graph from before the optimizer leaves its gradients in .grad, which step takes in") {
  two_layers other;
  auto const from_before = loss_of(other, x);
  auto const its_optimizer = make_optimizer(other, gathered_settings);
  from_before.backward();
  REQUIRE(other.fc1->weight.grad().defined());
  its_optimizer->step();
  CHECK_FALSE(other.fc1->weight.grad().defined());

  two_layers same;
  sara::test::copy_weights(model, same);
  auto const same_optimizer = make_optimizer(same, gathered_settings);
  same.fc1->weight.mutable_grad() = dense_gradient(model, x);  // by hand
  loss_of(model, x).backward();
  optimizer->step();
  same_optimizer->step();
  CHECK(torch::equal(model.fc1->weight, same.fc1->weight));
}

TEST_CASE_FIXTURE(gathered_model, "a weight has one optimizer of this kind") {
  CHECK(complaint<sara::value_error>([&] { make_optimizer(model, gathered_settings); },
                                     {"fc1.weight", "trained already"}) == "");
  optimizer.reset();
  CHECK_NOTHROW(make_optimizer(model, gathered_settings));
}

TEST_CASE_FIXTURE(gathered_model, "backward passes in several threads add up") {
  auto const expected = dense_gradient(model, x);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { loss_of(model, x).backward(); });
  for (auto& thread : threads) thread.join();
  CHECK(gathered(expected, 4) == "");
}

TEST_CASE("sparse gradients of an embedding are taken in as they are") {
  torch::manual_seed(4);
  torch::nn::Embedding dense{torch::nn::EmbeddingOptions(10, 6)};
  torch::nn::Embedding sparse{torch::nn::EmbeddingOptions(10, 6).sparse(true)};
  sara::test::copy_weights(*dense, *sparse);
  auto const index = torch::tensor({{1, 4}, {4, 9}, {0, 4}});
  auto const scale = torch::randn({3, 2, 6});
  auto const of_dense = make_optimizer(*dense, {.threshold = 0.5});
  auto const of_sparse = make_optimizer(*sparse, {.threshold = 0.5});
  (dense->forward(index) * scale).sum().backward();
  (sparse->forward(index) * scale).sum().backward();
  CHECK(difference(of_sparse->gradient("weight"), of_dense->gradient("weight"), {0, 1e-6}) == "");
  CHECK(of_dense->gradient("weight").size() > 3);
}

TEST_CASE("a weight in the middle of a graph is refused") {
  torch::nn::Linear const layer{3, 2};
  auto const result = layer->weight * 2;
  CHECK(complaint<sara::value_error>(
            [&] {
              make_optimizer(sara::torch::named_tensors{{"w", result}});
            },
            {"'w'", "leaf", "result of an operation"}) == "");
}

namespace {

/// What stands between the weights and their copies in torch::nn::parallel::replicate, whose header wants CUDA's.
struct sum_of_replicas : torch::autograd::Node {
  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    return {gradients[0] + gradients[1]};
  }
};

}  // namespace

TEST_CASE("replicas of a data-parallel wrapper send their gradients home") {
  torch::manual_seed(7);
  torch::nn::Linear layer(12, 5), plain(12, 5);
  sara::test::copy_weights(*layer, *plain);
  auto const x = torch::randn({6, 12});
  plain->forward(x).square().mean().backward();

  auto const optimizer = make_optimizer(*layer, gathered_settings);
  auto const halves = x.chunk(2);
  auto const sum = std::make_shared<sum_of_replicas>();
  sum->set_next_edges(torch::autograd::collect_next_edges(layer->weight));
  std::vector<at::Tensor> outputs;
  for (auto const& half : halves) {
    auto replica = layer->weight.detach().clone();
    torch::autograd::set_history(replica, sum);
    outputs.push_back(torch::linear(half, replica, layer->bias));
  }
  torch::cat(outputs).square().mean().backward();
  auto const dense = plain->weight.grad();
  CHECK(difference(optimizer->gradient("weight"), where_small(dense, layer->weight, gathered_settings.threshold),
                   {1e-7, 1e-5}) == "");
  CHECK(optimizer->gradient("weight").size() > 3);
  CHECK_FALSE(layer->weight.grad().defined());
}
