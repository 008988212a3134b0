// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <sara/torch/sampled_operators.hpp>

#include "optimizers.hpp"

namespace {

using sara::test::difference;
using sara::test::make_optimizer;
using sara::test::where_small;

constexpr double theta = 0.15;

/// What made this value, as autograd names it.
std::string origin(at::Tensor const& y) { return y.grad_fn() ? y.grad_fn()->name() : "nothing"; }

bool is_from(at::Tensor const& y, std::string const& function) { return origin(y).find(function) != std::string::npos; }

/// How many nodes of this function a graph has.
int count_nodes(std::shared_ptr<torch::autograd::Node> const& node, std::string const& function,
                std::set<torch::autograd::Node*>& seen) {
  if (!node || !seen.insert(node.get()).second) return 0;
  int count = node->name().find(function) != std::string::npos ? 1 : 0;
  for (auto const& edge : node->next_edges()) count += count_nodes(edge.function, function, seen);
  return count;
}

/// A layer whose weight a sara optimizer trains, and what it computes.
struct trained_weight : torch::nn::Module {
  explicit trained_weight(at::IntArrayRef shape) : w{register_parameter("w", torch::randn(shape) * 0.3)} {}
  at::Tensor w;
};

/// Values and gradients of f by sampled operators, against libtorch's own on an equal weight.
void compare_operator(at::IntArrayRef shape, at::Tensor const& x, std::string const& function,
                      std::function<at::Tensor(at::Tensor const& x, at::Tensor const& w)> const& f) {
  CAPTURE(function);
  trained_weight sampled{shape}, dense{shape};
  sara::test::copy_weights(sampled, dense);
  auto const optimizer = make_optimizer(sampled, {.threshold = theta});
  auto const input = [&] { return x.is_floating_point() ? x.clone().requires_grad_() : x; };
  auto const xs = input(), xd = input();
  auto const expected = f(xd, dense.w);
  CHECK_FALSE(is_from(f(xs, sampled.w), function));
  sara::torch::sampled_operators const sampling;
  auto const got = f(xs, sampled.w);
  CHECK(is_from(got, function));
  CHECK_FALSE(is_from(f(xd, dense.w), function));
  CHECK(torch::equal(got, expected));

  auto const dy = torch::randn_like(expected);
  got.backward(dy);
  expected.backward(dy);
  auto const of_dense = where_small(dense.w.grad(), dense.w, theta);
  CHECK(difference(optimizer->gradient("w"), of_dense, {1e-5, 1e-5}) == "");
  if (xs.requires_grad()) CHECK(torch::allclose(xs.grad(), xd.grad(), 1e-5, 1e-5));

  auto const alone = torch::autograd::grad({f(xs, sampled.w)}, {sampled.w}, {dy});  // the dense one, on demand
  CHECK(torch::allclose(alone[0], dense.w.grad(), 1e-5, 1e-5));
  CHECK(difference(optimizer->gradient("w"), of_dense, {1e-5, 1e-5}) == "");
  at::NoGradGuard const no_grad;
  CHECK(torch::equal(f(xs, sampled.w), expected));
}

}  // namespace

TEST_CASE("operators of libtorch sample the gradients of weights that a sara optimizer trains") {
  torch::manual_seed(81);
  auto const bias = torch::randn({6});
  compare_operator({6, 9}, torch::randn({9}), "linear_function",
                   [&](auto& x, auto& w) { return torch::linear(x, w, bias); });
  compare_operator({6, 9}, torch::randn({2, 3, 9}), "linear_function",
                   [&](auto& x, auto& w) { return torch::linear(x, w, bias); });
  compare_operator({6, 9}, torch::randn({9, 4}).t(), "linear_function",
                   [](auto& x, auto& w) { return torch::linear(x, w); });
  compare_operator({6, 9}, torch::randn({4, 9}), "linear_function",
                   [&](auto& x, auto& w) { return torch::linear(x, w, bias); });
  compare_operator({6, 9}, torch::randn({2, 3, 9}), "linear_function",
                   [](auto& x, auto& w) { return torch::matmul(x, w.t()); });
  compare_operator({6, 9}, torch::randn({4, 9}), "linear_function",
                   [&](auto& x, auto& w) { return torch::nn::functional::linear(x, w, bias); });
  compare_operator({6, 3, 3, 3}, torch::randn({2, 3, 8, 8}), "conv2d_function", [&](auto& x, auto& w) {
    return torch::conv2d(x, w, bias, 2, {1, 0});
  });
  compare_operator({11, 5}, torch::randint(11, {3, 4}, torch::kLong), "embedding_function",
                   [](auto& x, auto& w) { return torch::embedding(w, x, 2); });
}

TEST_CASE("what operators do not sample is gathered, to the same gradients") {
  torch::manual_seed(82);
  trained_weight layer{{6, 9}};
  auto const optimizer = make_optimizer(layer, {.threshold = theta});
  auto const x = torch::randn({4, 9});
  auto const dy = torch::randn({4, 6});
  auto const hooked = [&] {
    auto const transposed = layer.w.t();
    transposed.register_hook([](at::Tensor const& g) { return g * 1; });
    return torch::matmul(x, transposed);
  };
  auto const retained = [&] {
    auto const transposed = layer.w.t();
    transposed.retain_grad();
    return torch::matmul(x, transposed);
  };
  std::vector<std::function<at::Tensor()>> const others{
      [&] { return torch::addmm(torch::zeros({6}), x, layer.w.t(), 1, 2) / 2; },
      [&] {
        return torch::addmm(torch::zeros({4, 6}), x, layer.w.t());
      },
      [&] {
        return torch::linear(x, layer.w, torch::zeros({4, 1}).requires_grad_());
      },
      [&] { return torch::matmul(x, (layer.w * 1).t()); },
      [&] { return torch::matmul(x, layer.w.transpose(0, 1)); },
      [&] {
        return torch::cat({torch::linear(x, layer.w.slice(0, 0, 2)), torch::linear(x, layer.w.slice(0, 2))}, 1);
      },
      [&] { return torch::matmul(layer.w, x.t()).t(); },
      [&] { return torch::matmul(x.to_sparse(), layer.w.t()); },
      hooked,
      retained};
  sara::torch::sampled_operators const sampling;
  auto const expected = where_small(torch::matmul(dy.t(), x), layer.w, theta);
  CHECK(is_from(torch::linear(x, layer.w), "linear_function"));
  for (std::size_t i = 0; i < others.size(); ++i) {
    CAPTURE(i);
    auto const y = others[i]();
    CHECK_FALSE(is_from(y, "linear_function"));
    y.backward(dy);
    CHECK(difference(optimizer->gradient("w"), expected, {1e-5, 1e-5}) == "");
    optimizer->zero_grad();
  }
  CHECK_THROWS_AS(torch::addmm(torch::zeros({6}), torch::zeros({2, 3, 9}), layer.w.t()), c10::Error);
  trained_weight table{{5, 3}};
  auto const of_table = make_optimizer(table, {.threshold = theta});
  auto const index = torch::tensor({1, 1, 4});
  auto const rows = torch::embedding(table.w, index, -1, /*scale_grad_by_freq=*/true);
  CHECK_FALSE(is_from(rows, "embedding_function"));
  rows.backward(torch::ones({3, 3}));
  auto dense = torch::zeros({5, 3});
  dense[1] = 1;
  dense[4] = 1;
  CHECK(difference(of_table->gradient("w"), where_small(dense, table.w, theta), {1e-6, 0}) == "");
}

TEST_CASE("what operators return may change in place, and weights whose values are not needed again too") {
  torch::manual_seed(85);
  trained_weight layer{{6, 9}}, frozen{{6, 9}};
  sara::test::copy_weights(layer, frozen);
  auto const optimizer = make_optimizer(layer, {.threshold = theta});
  auto const x = torch::randn({2, 3, 9});
  auto const bias = torch::randn({6}, at::requires_grad()), same_bias = bias.detach().clone().requires_grad_();
  sara::torch::sampled_operators const sampling;
  torch::linear(x, layer.w, bias).relu_().sum().backward();
  torch::linear(x, frozen.w, same_bias).relu_().sum().backward();
  CHECK(difference(optimizer->gradient("w"), where_small(frozen.w.grad(), frozen.w, theta), {1e-5, 1e-5}) == "");
  CHECK(torch::allclose(bias.grad(), same_bias.grad(), 1e-5, 1e-5));

  auto const first = torch::linear(x, layer.w), second = torch::linear(2 * x, layer.w);
  first.sum().backward();
  optimizer->step();
  CHECK_NOTHROW(second.sum().backward());
}

TEST_CASE("operators are libtorch's own again when the last of several is gone, or the optimizer is") {
  torch::manual_seed(83);
  trained_weight layer{{6, 9}};
  auto optimizer = make_optimizer(layer, {.threshold = theta});
  auto const x = torch::randn({4, 9});
  auto const samples = [&] { return is_from(torch::linear(x, layer.w), "linear_function"); };
  std::optional<sara::torch::sampled_operators> first{std::in_place}, second{std::in_place};
  CHECK(samples());
  first.reset();
  CHECK(samples());
  second.reset();
  CHECK_FALSE(samples());
  first.emplace();
  CHECK(samples());
  optimizer.reset();
  CHECK_FALSE(samples());
  torch::linear(x, layer.w).sum().backward();
  CHECK(layer.w.grad().defined());
}

TEST_CASE("a transformer's own layers train alike, sampled and gathered") {
  auto const make = [] {
    torch::manual_seed(84);
    return torch::nn::TransformerEncoderLayer(
        torch::nn::TransformerEncoderLayerOptions(24, 4).dim_feedforward(48).dropout(0));
  };
  auto gathered = make(), sampled = make(), early = make();
  sara::test::recipe<> settings{.threshold = 0.08, .rate = {.rate = 0.01, .floor = 1}};
  auto const of_gathered = make_optimizer(*gathered, settings);
  auto const of_sampled = make_optimizer(*sampled, settings);
  settings.in_backward = true;
  auto const of_early = make_optimizer(*early, settings);
  auto const train = [](torch::nn::TransformerEncoderLayer& model, sara::torch::optimizer& optimizer, int step) {
    torch::manual_seed(static_cast<std::uint64_t>(step));
    auto const x = torch::randn({7, 3, 24});
    (model->forward(x) - torch::randn({7, 3, 24})).square().mean().backward();
    optimizer.step();
  };
  for (int step = 0; step < 4; ++step) {
    train(gathered, *of_gathered, step);
    // [sampled_operators]
    sara::torch::sampled_operators const sampling;
    // [/sampled_operators]
    train(sampled, *of_sampled, step);
    train(early, *of_early, step);
    if (step > 0) continue;
    auto const x = torch::randn({7, 3, 24});
    std::set<torch::autograd::Node*> seen;
    auto const y = sampled->forward(x);
    CHECK(count_nodes(y.grad_fn(), "linear_function", seen) == 4);  // attention's two, and the two after it
  }
  for (auto const& p : sampled->named_parameters()) {
    CAPTURE(p.key());
    if (p.key() != "self_attn.in_proj_bias")  // a key's has a gradient of rounding alone, to AdamW a direction
      CHECK(torch::allclose(p.value(), gathered->named_parameters()[p.key()], 0, 2e-5));
    CHECK(torch::equal(p.value(), early->named_parameters()[p.key()]));
  }
  CHECK(sara::test::different_weights(*make(), *sampled).size() >= 8);
}
