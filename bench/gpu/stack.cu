// SPDX-License-Identifier: Apache-2.0
// The whole training step of a stack of Linear layers: forward and backward pass by cuBLAS with the library's sampled
// gradients and step, against the published way and others in PyTorch.
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/select/ranked.hpp>
#include <sara/tensor/traits.hpp>
#include <sara/tune/fine_tuner.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "peers/cublas.cuh"
#include "peers/pytorch.hpp"

namespace {

using sara::cuda::device;

struct stack_size {
  std::int64_t layers, width, tokens;
};
constexpr double rate = 1e-3;

template <class T>
struct set_scaled {
  std::uint64_t stream;
  float scale;
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
    to[i] = sara::narrow<T>(scale * bench::uniform_at<float>(stream, static_cast<std::uint64_t>(i)));
  }
};

template <class T>
struct keep_positive {
  T* x;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
    if (!(sara::widen(x[i]) > 0)) x[i] = sara::narrow<T>(0.0F);
  }
};
/// The gradient of keep_positive.
template <class T>
struct keep_where_positive {
  T const* y;
  T* dy;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
    if (!(sara::widen(y[i]) > 0)) dy[i] = sara::narrow<T>(0.0F);
  }
};
/// The squared error's share of the mean, and its gradient.
template <class T>
struct squared_error {
  T const *y, *target;
  double share;
  T* dy;
  SARA_HOST_DEVICE double operator()(std::int64_t i, std::int64_t) const {
    auto const error = static_cast<float>(sara::widen(y[i])) - static_cast<float>(sara::widen(target[i]));
    dy[i] = sara::narrow<T>(static_cast<float>(2 * share) * error);
    return share * static_cast<double>(error) * static_cast<double>(error);
  }
};

/// How a layer's gradient comes to be: at its selected entries only, or dense in memory that the layers share, of which
/// the entries are taken.
enum class gradients { sampled, dense };

/// y = relu(… relu(x W₁ᵀ) …) Wₙᵀ without a last relu, its mean squared error, and a tuner of all weights.
template <class T, class Regularizer>
class stack {
 public:
  stack(bench::station& at, stack_size size, double fraction, Regularizer regularizer,
        gradients way = gradients::sampled)
      : at_{at},
        size_{size},
        way_{way},
        weights_{scaled_weights()},
        target_{bench::uniform_on<T>(at, "target", size.tokens * size.width)},
        dy_{at.gpu().allocate<T>(size.tokens * size.width)},
        dx_{at.gpu().allocate<T>(size.tokens * size.width)},
        dw_{at.gpu().allocate<float>(way == gradients::dense ? size.width * size.width : 0)},
        losses_{at.gpu().allocate<double>(most_losses)},
        tuner_{at.gpu(),
               named(),
               sara::smallest{.fraction = fraction},
               regularizer,
               sara::adamw{.weight_decay = 0},
               sara::constant_rate{.rate = rate}} {
    activations_.push_back(bench::uniform_on<T>(at, "x", size.tokens * size.width));
    for (std::int64_t i = 0; i < size.layers; ++i)
      activations_.push_back(at.gpu().template allocate<T>(size.tokens * size.width));
  }

  void step() {
    auto const& gpu = at_.gpu();
    auto const [layers, width, tokens] = size_;
    auto const count = tokens * width;
    auto const activation = [&](std::int64_t i) { return activations_[static_cast<std::size_t>(i)].data(); };
    for (std::int64_t i = 0; i < layers; ++i) {
      bench::multiply(at_, {tokens, width, width}, bench::factor::of(activation(i), width),
                      bench::factor::of(weight(i), width, true), activation(i + 1));
      if (i + 1 < layers) sara::for_each(gpu, sara::all_positions{count}, keep_positive<T>{activation(i + 1)});
    }
    auto* const loss = losses_.data() + std::min(steps_++, most_losses - 1);
    sara::reduce(gpu, sara::all_positions{count},
                 squared_error<T>{activation(layers), target_.data(), 1 / static_cast<double>(count), dy_.data()},
                 loss);
    for (std::int64_t i = layers - 1; i >= 0; --i) {
      if (way_ == gradients::dense) {
        bench::multiply(at_, {width, width, tokens}, bench::factor::of(dy_.data(), width, true),
                        bench::factor::of(activation(i), width), dw_.data());
        tuner_[std::to_string(i)].accumulate(sara::view(dw_.data(), {width, width}, sara::memory::cuda));
      } else {
        tuner_[std::to_string(i)].accumulate(sara::view(dy_.data(), {tokens, width}, sara::memory::cuda),
                                             sara::view(activation(i), {tokens, width}, sara::memory::cuda));
      }
      if (i == 0) break;  // nobody wants the gradient of the input
      bench::multiply(at_, {tokens, width, width}, bench::factor::of(dy_.data(), width),
                      bench::factor::of(weight(i), width), dx_.data());
      std::swap(dy_, dx_);
      sara::for_each(gpu, sara::all_positions{count}, keep_where_positive<T>{activation(i), dy_.data()});
    }
    tuner_.step();
  }

  /// Of the first steps, at least so many.
  [[nodiscard]] std::vector<double> losses(std::int64_t steps) {
    while (steps_ < steps) step();
    auto out = bench::taken_from(at_, losses_);
    out.resize(static_cast<std::size_t>(steps));
    return out;
  }

  /// What PyTorch starts from.
  void write(bench::scratch_folder const& folder) const {
    folder.write("weights", bench::taken_from(at_, weights_));
    folder.write("x", bench::taken_from(at_, activations_.front()));
    folder.write("target", bench::taken_from(at_, target_));
  }
  [[nodiscard]] std::int64_t learning() const { return tuner_.learning(); }

 private:
  static constexpr std::int64_t most_losses = 8;
  using tuner_type = sara::fine_tuner<device, float, sara::smallest, Regularizer, sara::adamw, sara::constant_rate>;

  [[nodiscard]] sara::cuda::buffer<T> scaled_weights() const {
    auto const n = size_.layers * size_.width * size_.width;
    auto out = at_.gpu().template allocate<T>(n);
    // activations keep their size from layer to layer
    auto const scale = static_cast<float>(std::sqrt(6.0 / static_cast<double>(size_.width)));
    sara::for_each(at_.gpu(), sara::all_positions{n}, set_scaled<T>{sara::stream_of("weights"), scale, out.data()});
    return out;
  }
  [[nodiscard]] T* weight(std::int64_t i) { return weights_.data() + i * size_.width * size_.width; }
  [[nodiscard]] std::vector<sara::named_tensor> named() {
    std::vector<sara::named_tensor> out;
    for (std::int64_t i = 0; i < size_.layers; ++i)
      out.push_back({std::to_string(i), sara::view(weight(i), {size_.width, size_.width}, sara::memory::cuda)});
    return out;
  }

  bench::station& at_;
  stack_size size_;
  gradients way_;
  sara::cuda::buffer<T> weights_, target_, dy_, dx_;
  sara::cuda::buffer<float> dw_;
  sara::cuda::buffer<double> losses_;
  std::vector<sara::cuda::buffer<T>> activations_;
  std::int64_t steps_ = 0;
  tuner_type tuner_;
};

/// Largest relative difference of the losses of the first steps.
double losses_differ(std::vector<double> const& expected, std::vector<double> const& got) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    auto const difference = std::abs(got[i] / expected[i] - 1);
    if (!(difference <= worst)) worst = difference;  // a NaN as well
  }
  return worst;
}

/// Everything counts: weights, activations, gradients, the optimizer's columns. Its maker says what is made.
template <class Make>
auto held_by(bench::station& at, Make&& make) {
  auto const before = at.meter().alive();
  auto const made = make();
  return std::pair{made, at.meter().alive() - before};
}

template <class T>
bench::trial against_pytorch(stack_size size, double fraction, bool tf32) {
  auto& at = bench::station_of(tf32);
  using stack_type = stack<T, sara::no_regularizer>;
  auto const make = [&](gradients way) {
    return held_by(at, [&] { return std::make_shared<stack_type>(at, size, fraction, sara::no_regularizer{}, way); });
  };
  auto const [s, held] = make(gradients::sampled);
  auto const [dense, held_by_dense] = make(gradients::dense);
  auto const folder = std::make_shared<bench::scratch_folder>();
  bench::trial t;
  bool const exact = std::is_same_v<T, float> && !tf32;
  t.tolerance = exact ? 1e-4 : 5e-2;
  t.sara = bench::on_device(at, "sara", held, [s = s] { s->step(); });
  auto const entries = static_cast<double>(s->learning());
  auto const all = static_cast<double>(size.layers * size.width * size.width);
  t.flops = 2 * static_cast<double>(size.tokens) * (2 * all + entries) + 14 * entries;
  t.bytes = sizeof(T) * (2 * all + 3 * static_cast<double>(size.layers * size.width * size.tokens)) + 28 * entries;
  t.peers.push_back(bench::on_device(
      at, "sara, dense dW and gather", held_by_dense, [dense = dense] { dense->step(); },
      [s = s, dense = dense] { return losses_differ(s->losses(4), dense->losses(4)); }));
  if (!bench::has_pytorch_on_cuda()) return t;
  s->write(*folder);
  sara::adamw const rule;
  std::ofstream{folder->path() / "numbers.json"} << nlohmann::json{{"dtype", bench::dtype_name<T>(tf32)},
                                                                   {"layers", size.layers},
                                                                   {"width", size.width},
                                                                   {"tokens", size.tokens},
                                                                   {"fraction", fraction},
                                                                   {"rate", rate},
                                                                   {"beta1", rule.beta1},
                                                                   {"beta2", rule.beta2},
                                                                   {"epsilon", rule.epsilon}};
  struct method {
    char const* title;
    char const* name;
    std::int64_t same_steps;  // as sara: all of them where the same weights learn
  };
  for (auto const& [title, name, same_steps] : {method{"PyTorch, SaRA as published", "published", 4},
                                                {"PyTorch full", "full", 1},
                                                {"PyTorch masked gradients", "masked", 4},
                                                {"PyTorch LoRA", "lora", 1},
                                                {"PyTorch gather in layer", "sparse", 4}}) {
    auto const peer = bench::pytorch(name, *folder, "cuda", "layer_stack.py");
    auto contender = bench::on_device(title, peer, [=, s = s, steps = exact ? same_steps : 1] {
      std::vector<double> got;
      for (peer->save(); std::ssize(got = folder->template read<double>("losses")) < steps; peer->save())
        static_cast<void>(peer->run());
      got.resize(static_cast<std::size_t>(steps));
      return losses_differ(s->losses(steps), got);
    });
    contender.goal = 1;
    t.peers.push_back(contender);
  }
  return t;
}

/// What the low-rank loss on every matrix costs in each step.
bench::trial with_low_rank_loss(stack_size size, double fraction) {
  auto& at = bench::station_of(false);
  auto const [with, held_with] = held_by(at, [&] {
    return std::make_shared<stack<float, sara::nuclear_norm>>(at, size, fraction, sara::nuclear_norm{.weight = 5e-4});
  });
  auto const [without, held_without] = held_by(at, [&] {
    return std::make_shared<stack<float, sara::no_regularizer>>(at, size, fraction, sara::no_regularizer{});
  });
  bench::trial t;
  t.tolerance = 1e-6;
  t.sara = bench::on_device(at, "sara", held_with, [with = with] { with->step(); });
  t.peers.push_back(bench::on_device(
      at, "sara without it", held_without, [without = without] { without->step(); },
      [with = with, without = without] { return losses_differ(with->losses(1), without->losses(1)); }));
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  auto const add = [&](char const* name, stack_size size, double fraction, std::string dtype, bool starred,
                       std::function<bench::trial(int)> prepare) {
    all.push_back({.name = name,
                   .shape = std::to_string(size.layers) + " x Linear " + bench::by(size.width, size.width) + " B" +
                            std::to_string(size.tokens),
                   .density = fraction,
                   .dtype = std::move(dtype),
                   .starred = starred,
                   .prepare = std::move(prepare)});
  };
  for (std::int64_t const tokens : {1024, 4096, 16'384}) {
    stack_size const size{24, 1280, tokens};
    bool const middle = tokens == 4096;
    add("layer stack", size, 0.058, "float32", middle, [=](int) { return against_pytorch<float>(size, 0.058, false); });
    add("layer stack", size, 0.058, "bfloat16", middle,
        [=](int) { return against_pytorch<sara::bfloat16>(size, 0.058, false); });
    if (!middle) continue;
    add("layer stack", size, 0.058, "tf32", false, [=](int) { return against_pytorch<float>(size, 0.058, true); });
    add("layer stack, low-rank loss", size, 0.058, "float32", true,
        [=](int) { return with_low_rank_loss(size, 0.058); });
  }
  return all;
}

bench::family const family{"8 layer stack", list};

}  // namespace
