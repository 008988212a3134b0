// SPDX-License-Identifier: Apache-2.0
// The UNet of examples/unet against the same layers of libtorch, in float64: its output, and the gradients of the
// parameters of every layer, which those of all later layers' inputs lead to.
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "examples/unet/dense_gradients.hpp"
#include "examples/unet/diffusion.hpp"
#include "examples/unet/model.hpp"
#include "optimizers.hpp"

namespace {

using at::Tensor;

/// The network in libtorch's functions, over parameters of the same names.
class torch_unet {
 public:
  torch_unet(unet::model<double> const& like) : shape_{like.shape()} {
    for (auto const* p : like.parameters())
      weights.emplace_back(p->name, torch::tensor(p->values, torch::kDouble).reshape(p->shape).requires_grad_());
  }

  Tensor forward(Tensor const& x, std::vector<double> const& times, std::vector<unet::condition> const& conditions) {
    auto const e = embed(times, conditions);
    auto const levels = static_cast<std::int64_t>(shape_.channels.size());
    auto h = conv("conv_in", x);
    std::vector<Tensor> skipped;
    for (std::int64_t l = 0; l < levels; ++l) {
      auto const name = "down." + std::to_string(l);
      if (l > 0) h = conv(name + ".shrink", h, 2);
      skipped.push_back(h = stage(name, h, e, l >= shape_.attention_from));
    }
    h = stage("middle", h, e, true);
    for (auto l = levels - 1; l-- > 0;) {
      auto const name = "up." + std::to_string(l);
      auto const large = conv(name + ".narrow", h).repeat_interleave(2, 2).repeat_interleave(2, 3);
      h = stage(name, torch::cat({large, skipped[static_cast<std::size_t>(l)]}, 1), e, l >= shape_.attention_from);
    }
    return conv("conv_out", torch::silu(norm("norm_out", h)));
  }

  sara::torch::named_tensors weights;

 private:
  [[nodiscard]] Tensor const& at(std::string const& name) const {
    for (auto const& [key, tensor] : weights)
      if (key == name) return tensor;
    throw std::out_of_range{name};
  }
  [[nodiscard]] bool has(std::string const& name) const {
    return std::any_of(weights.begin(), weights.end(), [&](auto const& w) { return w.first == name; });
  }

  [[nodiscard]] Tensor linear(std::string const& name, Tensor const& x) const {
    return torch::linear(x, at(name + ".weight"), at(name + ".bias"));
  }
  [[nodiscard]] Tensor conv(std::string const& name, Tensor const& x, std::int64_t stride = 1) const {
    auto const& w = at(name + ".weight");
    return torch::conv2d(x, w, at(name + ".bias"), stride, w.size(2) / 2);
  }
  [[nodiscard]] Tensor norm(std::string const& name, Tensor const& x) const {
    return torch::group_norm(x, 8, at(name + ".weight"), at(name + ".bias"));
  }

  [[nodiscard]] Tensor embed(std::vector<double> const& times, std::vector<unet::condition> const& conditions) const {
    auto const half = shape_.embedding / 2;
    auto const frequency =
        torch::exp(torch::arange(half, torch::kDouble) * (-std::log(1e4) / static_cast<double>(half)));
    auto const angle = 1e3 * torch::tensor(times, torch::kDouble).unsqueeze(1) * frequency;
    auto const time =
        linear("time.linear2", torch::silu(linear("time.linear1", torch::cat({angle.cos(), angle.sin()}, 1))));
    std::vector<Tensor> rows;
    for (auto const& [label, tokens] : conditions) {
      auto row = at("class.weight")[label];
      for (int const token : tokens) row = row + at("word.weight")[token] / static_cast<double>(tokens.size());
      rows.push_back(row);
    }
    return torch::silu(time + torch::stack(rows));
  }

  [[nodiscard]] Tensor stage(std::string const& name, Tensor const& x, Tensor const& e, bool attend) const {
    auto const in = name + ".block";
    auto hidden = conv(in + ".conv1", torch::silu(norm(in + ".norm1", x)));
    auto const both = linear(in + ".embedding", e).unsqueeze(2).unsqueeze(3).chunk(2, 1);
    hidden = conv(in + ".conv2", torch::silu(norm(in + ".norm2", hidden) * (1 + both[0]) + both[1]));
    hidden = hidden + (has(in + ".skip.weight") ? conv(in + ".skip", x) : x);
    return attend ? attention(name + ".attention", hidden) : hidden;
  }

  [[nodiscard]] Tensor attention(std::string const& name, Tensor const& x) const {
    constexpr std::int64_t heads = 4;
    auto const size = x.size(1) / heads;
    auto const qkv = conv(name + ".qkv", norm(name + ".norm", x)).reshape({x.size(0), 3, heads, size, -1}).unbind(1);
    auto const scores =
        torch::softmax(qkv[0].transpose(-1, -2).matmul(qkv[1]) / std::sqrt(static_cast<double>(size)), -1);
    return x + conv(name + ".proj", qkv[2].matmul(scores.transpose(-1, -2)).reshape(x.sizes()));
  }

  unet::model_shape shape_;
};

Tensor as_torch(unet::strips<double> const& x) {
  auto const& g = x.grid;
  return torch::from_blob(x.first, {g.batch, x.channels, g.height, g.width}, {g.image_pitch(), x.pitch, g.pitch(), 1},
                          torch::kDouble)
      .clone();
}

}  // namespace

TEST_CASE("the UNet of the example: libtorch's values, and the compact gradients of every layer") {
  constexpr double theta = 0.03;
  constexpr std::int64_t side = 8, batch = 2;
  sara::thread_pool pool{1};
  unet::model<double> net{pool,
                          {.channels = {8, 16, 24}, .embedding = 16, .classes = 5, .words = 7, .attention_from = 1}};
  std::uint64_t seed = 9;
  for (auto* p : net.parameters()) {
    if (p->begin.radius == 0) p->begin.radius = 0.2;  // also what starts at zero or one
    p->initialise(seed++);
  }
  torch_unet by_libtorch{net};
  auto const optimizer = sara::test::make_optimizer(by_libtorch.weights, {.threshold = theta}, true);

  std::vector<int> const words{1, 4, 6};
  std::vector<unet::condition> const conditions{{3, std::span{words}}, {0, {}}};
  std::vector<double> const times{0.3, 0.85};
  unet::grid const where{batch, side, side};
  auto const x = net.memory().take(3, where), v = net.memory().take(3, where), dv = net.memory().take(3, where);
  auto const uniform = [](std::uint64_t stream, std::size_t i) { return 2 * unet::random_uniform(stream, i) - 1; };
  for (std::int64_t n = 0; n < batch; ++n) {
    unet::write_image(x.view(), n, [&](std::size_t i) { return uniform(static_cast<std::uint64_t>(100 + n), i); });
    unet::write_image(dv.view(), n, [&](std::size_t i) { return uniform(static_cast<std::uint64_t>(200 + n), i); });
  }
  net.forward(x, times, conditions, v, true);
  auto const y = by_libtorch.forward(as_torch(x.view()), times, conditions);
  CHECK((y - as_torch(v.view())).abs().max().item<double>() < 1e-12 * y.abs().max().item<double>());

  unet::dense_gradients<double> gradients{net};
  auto const upstream = as_torch(dv.view());
  net.backward(dv.view(), gradients);
  y.backward(upstream);
  std::int64_t compared = 0;
  for (std::size_t i = 0; i < by_libtorch.weights.size(); ++i) {
    auto const& [name, weight] = by_libtorch.weights[i];
    CAPTURE(name);
    auto const dense = torch::tensor(std::vector<double>(gradients[i].begin(), gradients[i].end()), torch::kDouble)
                           .reshape(weight.sizes());
    auto const compact = optimizer->gradient(name);
    CHECK(sara::test::difference(compact, sara::test::where_small(dense, weight, theta),
                                 {1e-13 + 1e-11 * dense.abs().max().item<double>(), 0}) == "");
    CHECK_FALSE(weight.grad().defined());
    compared += std::ssize(compact);
  }
  CHECK(compared > 1000);
}
