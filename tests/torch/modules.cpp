// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <sstream>
#include <string>
#include <vector>

#include <sara/torch/modules.hpp>

#include "optimizers.hpp"

namespace {

using sara::test::difference;
using sara::test::make_optimizer;

torch::nn::Sequential convolutions() {
  using namespace torch::nn;
  torch::manual_seed(31);
  return Sequential(Conv2d(Conv2dOptions(3, 8, 3).padding(1)), ReLU(),
                    Conv2d(Conv2dOptions(8, 8, 3).stride(2).padding(torch::kValid)),
                    Conv2d(Conv2dOptions(8, 8, 3).padding(1).padding_mode(torch::kCircular)), Flatten(),
                    Linear(8 * 3 * 3, 10));
}

/// A user's own layer: its type is its own affair.
struct own_linear : torch::nn::LinearImpl {
  using torch::nn::LinearImpl::LinearImpl;
};

}  // namespace

TEST_CASE("layers of every Sequential are replaced over their parameters, by type") {
  auto model = convolutions();
  model->push_back("own", std::make_shared<own_linear>(10, 10));
  auto const before = model->named_parameters();
  // [sample_layers]
  auto const replaced = sara::torch::sample_layers(*model);
  // [/sample_layers]
  CHECK(replaced == 4);
  CHECK(sara::torch::sample_layers(*model) == 0);
  auto const after = model->named_parameters();
  REQUIRE(after.keys() == before.keys());
  for (auto const& p : after) CHECK(p.value().is_same(before[p.key()]));
  CHECK(model->ptr(0)->as<sara::torch::conv2d_layer_impl>() != nullptr);
  CHECK(model->named_children()["0"].get() == model->ptr(0).get());
  CHECK(model->ptr(6)->as<sara::torch::linear_layer_impl>() == nullptr);
}

TEST_CASE("layers are replaced in a Sequential of a model that is no shared_ptr") {
  struct network : torch::nn::Module {
    network() { layers = register_module("layers", convolutions()); }
    torch::nn::Sequential layers{nullptr};
  };
  network model;
  CHECK(sara::torch::sample_layers(model) == 4);
}

TEST_CASE("sampled and gathered layers train alike") {
  auto const train = [](torch::nn::Sequential& model, sara::torch::optimizer& optimizer, int step) {
    torch::manual_seed(static_cast<std::uint64_t>(step));
    auto const x = torch::randn({4, 3, 8, 8});
    auto const target = torch::randint(10, {4}, torch::kLong);
    torch::cross_entropy_loss(model->forward(x), target).backward();
    optimizer.step();
  };
  auto gathered = convolutions(), sampled = convolutions(), early = convolutions();
  sara::test::recipe<> settings{.threshold = 0.08, .rate = {.rate = 0.01, .floor = 1}};
  auto const of_gathered = make_optimizer(*gathered, settings);
  auto const of_sampled = make_optimizer(*sampled, settings);
  settings.in_backward = true;
  auto of_early = make_optimizer(*early, settings);
  sara::torch::sample_layers(*sampled);  // after the optimizer: parameters stay what they are
  sara::torch::sample_layers(*early);
  for (int step = 0; step < 4; ++step) {
    train(gathered, *of_gathered, step);
    train(sampled, *of_sampled, step);
    train(early, *of_early, step);
    if (step != 1) continue;
    std::stringstream state;
    torch::save(*of_early, state);
    of_early.reset();
    of_early = make_optimizer(*early, settings);
    torch::load(*of_early, state);
  }
  for (auto const& p : sampled->named_parameters()) {
    CHECK(torch::allclose(p.value(), gathered->named_parameters()[p.key()], 0, 2e-5));
    CHECK(torch::equal(p.value(), early->named_parameters()[p.key()]));  // updated in the backward pass: the same bits
  }
}

TEST_CASE("drop-in modules have libtorch's options, parameters and files, and clone as what they are") {
  torch::manual_seed(32);
  sara::torch::linear_layer fc{torch::nn::LinearOptions(6, 4).bias(false)};
  sara::torch::conv2d_layer conv{torch::nn::Conv2dOptions(4, 6, {3, 1}).padding({1, 0}).groups(2)};
  sara::torch::embedding_layer table{torch::nn::EmbeddingOptions(9, 4).padding_idx(2)};
  auto const x = torch::randn({2, 4, 5, 5});
  std::stringstream file;
  torch::save(conv, file);
  torch::nn::Conv2d loaded{torch::nn::Conv2dOptions(4, 6, {3, 1}).padding({1, 0}).groups(2)};
  torch::load(loaded, file);
  CHECK(torch::equal(loaded->forward(x), conv->forward(x)));
  auto const copy = std::dynamic_pointer_cast<sara::torch::conv2d_layer_impl>(conv->clone());
  REQUIRE(copy != nullptr);
  CHECK_FALSE(copy->weight.is_same(conv->weight));
  CHECK(torch::equal(copy->weight, conv->weight));
  CHECK(copy->named_parameters()["weight"].is_same(copy->weight));
  CHECK(std::dynamic_pointer_cast<sara::torch::linear_layer_impl>(fc->clone()) != nullptr);
  CHECK(std::dynamic_pointer_cast<sara::torch::embedding_layer_impl>(table->clone()) != nullptr);
  auto const index = torch::tensor({1, 2, 8});
  CHECK(torch::equal(table->forward(index), torch::embedding(table->weight, index, 2)));
  CHECK(torch::equal(fc->forward(x.flatten(2).slice(2, 0, 6)), torch::linear(x.flatten(2).slice(2, 0, 6), fc->weight)));
}
