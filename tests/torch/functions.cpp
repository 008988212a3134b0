// SPDX-License-Identifier: Apache-2.0
#include <ATen/autocast_mode.h>
#include <doctest/doctest.h>
#include <torch/torch.h>
#include <torch/version.h>

#include <string>
#include <vector>

#include <sara/torch/functions.hpp>
#include <sara/torch/modules.hpp>

#include "../support/golden.hpp"
#include "optimizers.hpp"

namespace {

using sara::test::difference;
using sara::test::golden;
using sara::test::make_optimizer;
using sara::test::where_small;
using sara::torch::named_tensors;

sara::test::recipe<> const sampled_settings{.threshold = 0.15};  // not in templates: GCC 12 does not survive it there

/// A module with one weight and one bias, for functions.
struct holder : torch::nn::Module {
  holder(at::IntArrayRef weight, std::int64_t out) {
    w = register_parameter("w", torch::randn(weight) * 0.3);
    if (out > 0) b = register_parameter("b", torch::randn({out}) * 0.3);
  }
  at::Tensor w, b;
};

/// Runs f on the weights of two equal modules, one of them trained and with sampled layers, and compares values,
/// the input's gradients, and compact gradients with the dense ones.
template <class Sampled, class Dense>
void compare(holder& sampled, at::Tensor const& x, Sampled&& by_sara, Dense&& by_libtorch) {
  holder dense(sampled.w.sizes(), sampled.b.defined() ? sampled.b.size(0) : 0);
  sara::test::copy_weights(sampled, dense);
  auto const optimizer = make_optimizer(sampled, sampled_settings);
  auto const input = [&] { return x.is_floating_point() ? x.clone().requires_grad_() : x; };
  auto const xs = input(), xd = input();
  auto const ys = by_sara(xs, sampled), yd = by_libtorch(xd, dense);
  CHECK(torch::equal(ys, yd));
  auto const scale = torch::randn_like(yd);
  (ys * scale).sum().backward();
  (yd * scale).sum().backward();
  if (x.is_floating_point()) CHECK(torch::allclose(xs.grad(), xd.grad(), 1e-5, 1e-5));
  auto const size = dense.w.grad().abs().max().item<double>();
  CHECK(optimizer->gradient("w").size() > 3);
  CHECK(difference(optimizer->gradient("w"), where_small(dense.w.grad(), dense.w, sampled_settings.threshold),
                   {1e-6 * size, 1e-5}) == "");
  if (dense.b.defined())
    CHECK(difference(optimizer->gradient("b"), where_small(dense.b.grad(), dense.b, sampled_settings.threshold),
                     {1e-5, 1e-5}) == "");
}

void set_autocast(bool on) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  at::autocast::set_autocast_enabled(at::kCPU, on);
#else
  at::autocast::set_cpu_enabled(on);
#endif
}

sara::conv2d_geometry geometry(std::int64_t stride, std::int64_t padding, std::int64_t dilation, std::int64_t groups) {
  return {{stride, stride}, {padding, padding}, {dilation, dilation}, groups};
}

}  // namespace

TEST_CASE("linear: values and gradients are libtorch's, for any leading extents") {
  torch::manual_seed(21);
  for (std::vector<std::int64_t> const& batch : {std::vector<std::int64_t>{1}, {9}, {2, 3, 4}, {}}) {
    for (bool const bias : {true, false}) {
      CAPTURE(batch.size());
      CAPTURE(bias);
      holder layer{{17, 13}, bias ? 17 : 0};
      auto sizes = batch;
      sizes.push_back(13);
      compare(
          layer, torch::randn(sizes), [](auto const& x, auto& m) { return sara::torch::linear(x, m.w, m.b); },
          [](auto const& x, auto& m) { return torch::linear(x, m.w, m.b); });
    }
  }
  holder layer{{6, 8}, 6};
  compare(
      layer, torch::randn({8, 5}), [](auto const& x, auto& m) { return sara::torch::linear(x.t(), m.w, m.b); },
      [](auto const& x, auto& m) { return torch::linear(x.t(), m.w, m.b); });
}

TEST_CASE("conv2d: values and gradients are libtorch's, for any geometry") {
  torch::manual_seed(22);
  for (auto const& g : {geometry(1, 1, 1, 1), geometry(2, 1, 1, 1), geometry(1, 2, 2, 1), geometry(1, 1, 1, 2)}) {
    CAPTURE(g.stride[0]);
    CAPTURE(g.dilation[0]);
    CAPTURE(g.groups);
    auto const by_sara = [&](auto const& x, auto& m) { return sara::torch::conv2d(x, m.w, m.b, g); };
    auto const by_libtorch = [&](auto const& x, auto& m) {
      return torch::conv2d(x, m.w, m.b, g.stride, g.padding, g.dilation, g.groups);
    };
    holder layer{{8, 6 / g.groups, 3, 3}, 8};
    compare(layer, torch::randn({2, 6, 9, 7}), by_sara, by_libtorch);
    holder same{{8, 6 / g.groups, 3, 3}, 0};
    compare(same, torch::randn({6, 9, 7}), by_sara, by_libtorch);  // without a batch
    holder again{{8, 6 / g.groups, 3, 3}, 8};
    compare(again, torch::randn({2, 6, 9, 7}).contiguous(torch::MemoryFormat::ChannelsLast), by_sara, by_libtorch);
  }
}

TEST_CASE("embedding: values and gradients are libtorch's, padding too") {
  torch::manual_seed(23);
  auto const index = torch::tensor({{1, 4, 2}, {4, 9, 4}, {0, 4, 2}});
  for (int const padding : {-1, 4}) {
    CAPTURE(padding);
    holder table{{10, 6}, 0};
    compare(
        table, index, [&](auto const& i, auto& m) { return sara::torch::embedding(m.w, i, padding); },
        [&](auto const& i, auto& m) { return torch::embedding(m.w, i, padding); });
  }
}

TEST_CASE("golden gradients, through sampled layers and through gathered ones") {
  auto const& file = golden("gradients.safetensors");
  auto const read = [&](std::string const& name) {
    auto values = file.read<float>(name);
    return torch::from_blob(values.data(), file.at(name).shape).clone();
  };
  for (std::string const name : {"linear_2d", "linear_3d", "linear_b1", "conv_k3s1p1", "conv_k1s1p0", "conv_k3s1p0"}) {
    for (bool const sampled : {true, false}) {
      CAPTURE(name);
      CAPTURE(sampled);
      bool const is_linear = name.starts_with("linear");
      holder layer{read(name + ".w").sizes(), 0};
      layer.w.set_data(read(name + ".w"));
      auto const optimizer = make_optimizer(layer, {.threshold = 0.02});
      auto const x = read(name + ".x");
      auto const padding = name.ends_with("p1") ? 1 : 0;
      auto const y = is_linear ? (sampled ? sara::torch::linear(x, layer.w) : torch::linear(x, layer.w))
                               : (sampled ? sara::torch::conv2d(x, layer.w, {}, geometry(1, padding, 1, 1))
                                          : torch::conv2d(x, layer.w, {}, 1, padding));
      y.backward(read(name + ".dy"));
      CHECK(difference(optimizer->gradient("w"), file.read<float>(name + ".dw_compact"), {1e-5, 1e-5}) == "");
    }
  }
}

TEST_CASE("without an optimizer, and for a weight that it does not train, the gradient is dense") {
  torch::manual_seed(24);
  holder layer{{4, 3}, 4};
  auto const x = torch::randn({5, 3});
  sara::torch::linear(x, layer.w, layer.b).sum().backward();
  auto const expected = torch::ones({5, 4}).t().mm(x);
  CHECK(torch::allclose(layer.w.grad(), expected));
  layer.w.mutable_grad().reset();
  auto recipe = sara::test::recipe<>{.threshold = sampled_settings.threshold};
  recipe.filter = {.exclude = {"w"}};
  auto const optimizer = make_optimizer(layer, recipe);
  sara::torch::linear(x, layer.w, layer.b).sum().backward();
  CHECK(torch::allclose(layer.w.grad(), expected));
  layer.w.requires_grad_(false);
  layer.w.mutable_grad().reset();
  sara::torch::linear(x, layer.w, layer.b).sum().backward();
  CHECK_FALSE(layer.w.grad().defined());
}

TEST_CASE("a pass for other tensors takes no sample, torch::autograd::grad of the weight is dense") {
  torch::manual_seed(25);
  holder layer{{8, 6}, 0};
  auto const optimizer = make_optimizer(layer, sampled_settings);
  auto const x = torch::randn({5, 6}, torch::requires_grad());
  auto const y = sara::torch::linear(x, layer.w);
  auto const none = std::vector<double>(optimizer->gradient("w").size());
  static_cast<void>(torch::autograd::grad({y.sum()}, {x}, {}, true));
  CHECK(difference(optimizer->gradient("w"), none, {}) == "");
  auto const dense = torch::autograd::grad({y.sum()}, {layer.w}, {}, true)[0];
  CHECK(torch::allclose(dense, torch::ones({5, 8}).t().mm(x)));
  CHECK(difference(optimizer->gradient("w"), none, {}) == "");
  torch::autograd::backward({y.sum()}, {}, true, false, {x});
  CHECK(difference(optimizer->gradient("w"), none, {}) == "");
  torch::autograd::backward({y.sum()}, {}, true, false, {layer.w});
  CHECK(difference(optimizer->gradient("w"), where_small(dense, layer.w, sampled_settings.threshold), {1e-6, 1e-5}) ==
        "");
}

TEST_CASE("a weight with hooks gets a dense gradient, which they see and change") {
  torch::manual_seed(28);
  holder sampled({7, 5}, 0), dense({7, 5}, 0);
  sara::test::copy_weights(sampled, dense);
  auto const optimizer = make_optimizer(sampled, sampled_settings);
  sampled.w.register_hook([](at::Tensor const& gradient) { return 3 * gradient; });
  auto const x = torch::randn({4, 5});
  sara::torch::linear(x, sampled.w).square().sum().backward();
  torch::linear(x, dense.w).square().sum().backward();
  CHECK(difference(optimizer->gradient("w"), where_small(3 * dense.w.grad(), dense.w, sampled_settings.threshold),
                   {1e-5, 1e-5}) == "");
}

TEST_CASE("a layer whose weight is frozen hands on the gradient of its input") {
  torch::manual_seed(29);
  holder sampled({7, 5}, 0);
  auto const optimizer = make_optimizer(sampled, sampled_settings);
  sampled.w.requires_grad_(false);
  auto const x = torch::randn({4, 5}).requires_grad_();
  sara::torch::linear(x, sampled.w).sum().backward();
  CHECK(torch::allclose(x.grad(), sampled.w.sum(0).expand({4, 5}), 1e-5, 1e-5));
}

TEST_CASE("a gradient penalty through a sampled layer") {
  torch::manual_seed(26);
  auto const penalty = [](auto const& layer, holder& m) {
    auto const x = torch::ones({3, 6}).requires_grad_();
    auto const y = torch::tanh(layer(x, m)).sum();
    return torch::autograd::grad({y}, {x}, {}, true, true)[0].square().sum();
  };
  holder sampled{{5, 6}, 5}, dense{{5, 6}, 5};
  sara::test::copy_weights(sampled, dense);
  auto const optimizer = make_optimizer(sampled, sampled_settings);
  penalty([](auto const& x, auto& m) { return sara::torch::linear(x, m.w, m.b); }, sampled).backward();
  penalty([](auto const& x, auto& m) { return torch::linear(x, m.w, m.b); }, dense).backward();
  CHECK(difference(optimizer->gradient("w"), where_small(dense.w.grad(), dense.w, sampled_settings.threshold),
                   {1e-5, 1e-4}) == "");
}

TEST_CASE("bfloat16 weights and autocast: products in bfloat16, sums in float32") {
  torch::manual_seed(27);
  holder layer{{16, 12}, 16};
  auto const x = torch::randn({10, 12});
  auto const scale = torch::randn({10, 16});
  holder wide{{16, 12}, 16};
  auto const run = [&](holder& m, auto const& in) {
    auto const optimizer = make_optimizer(m, sampled_settings);
    auto const y = sara::torch::linear(in, m.w, m.b);
    (y.to(torch::kFloat) * scale).sum().backward();
    return std::pair{y.scalar_type(), optimizer->gradient("w")};
  };
  layer.to(torch::kBFloat16);
  sara::test::copy_weights(layer, wide);
  auto const [narrow_type, narrow] = run(layer, x.to(torch::kBFloat16));
  auto const [wide_type, exact] = run(wide, x.to(torch::kBFloat16).to(torch::kFloat));
  CHECK((narrow_type == torch::kBFloat16));              // in brackets: doctest cannot print it
  CHECK((wide_type == torch::kFloat));                   // in brackets: doctest cannot print it
  CHECK(difference(narrow, exact, {0.05, 0.01}) == "");  // dY is rounded to bfloat16, the sum is not
  set_autocast(true);
  auto const [cast_type, cast] = run(wide, x);
  set_autocast(false);
  at::autocast::clear_cache();
  CHECK((cast_type == torch::kBFloat16));  // in brackets: doctest cannot print it
  CHECK(difference(cast, exact, {0.2, 0.05}) == "");
}

TEST_CASE("a sampled convolution under autocast") {
  torch::manual_seed(28);
  holder layer{{8, 3, 3, 3}, 8};
  auto const x = torch::randn({2, 3, 6, 6}), scale = torch::randn({2, 8, 4, 4});
  auto const run = [&](bool cast) {
    auto const optimizer = make_optimizer(layer, sampled_settings);
    set_autocast(cast);
    auto const y = sara::torch::conv2d(x, layer.w, layer.b, geometry(1, 0, 1, 1));
    set_autocast(false);
    at::autocast::clear_cache();
    (y.to(torch::kFloat) * scale).sum().backward();
    return std::pair{y.scalar_type(), optimizer->gradient("w")};
  };
  auto const [exact_type, exact] = run(false);
  auto const [cast_type, cast] = run(true);
  CHECK((exact_type == torch::kFloat));    // in brackets: doctest cannot print it
  CHECK((cast_type == torch::kBFloat16));  // in brackets: doctest cannot print it
  CHECK(difference(cast, exact, {0.2, 0.05}) == "");
}
