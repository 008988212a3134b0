// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/tensor/traits.hpp>

#include "bits.hpp"
#include "golden.hpp"

namespace sara::test {

/// Inputs [batch, 12] and targets [batch, 5].
template <Real R>
struct samples {
  std::vector<R> x, y;
};

/// Samples of golden/sara_mlp.safetensors.
template <Real R>
[[nodiscard]] samples<R> golden_samples(std::int64_t first = 0, std::int64_t count = 64) {
  auto const rows = [&](std::string const& name, std::int64_t cols) {
    auto const all = golden("sara_mlp.safetensors").read<float>(name);
    return std::vector<R>(all.begin() + first * cols, all.begin() + (first + count) * cols);
  };
  return {rows("x", 12), rows("y", 5)};
}

/// The network of golden/sara_mlp.safetensors in plain loops: out = tanh(x W₁ᵀ + b₁) W₂ᵀ + b₂ and the mean of
/// (out - y)², with weights of type T, computed in R.
template <Scalar T, Real R = widened<T>>
class mlp {
 public:
  static constexpr std::int64_t in = 12;
  static constexpr std::int64_t hidden = 24;
  static constexpr std::int64_t out = 5;
  static constexpr std::array names{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};

  /// As the golden trajectories start, rounded to T.
  mlp() {
    for (std::size_t i = 0; i < names.size(); ++i)
      for (auto const w : golden("sara_mlp.safetensors").read<float>(std::string("init.") + names[i]))
        weights_[i].push_back(narrow<T>(w));
  }

  [[nodiscard]] std::vector<T>& operator[](std::size_t i) { return weights_[i]; }
  [[nodiscard]] std::vector<T> const& operator[](std::size_t i) const { return weights_[i]; }

  [[nodiscard]] std::vector<named_tensor> weights() {
    std::array<extents, 4> const shapes{extents{hidden, in}, {hidden}, {out, hidden}, {out}};
    std::vector<named_tensor> views;
    for (std::size_t i = 0; i < names.size(); ++i)
      views.push_back({names[i], sara::view(weights_[i].data(), shapes[i])});
    return views;
  }

  /// Whether every weight is the same, bit by bit.
  [[nodiscard]] bool same_as(mlp const& other) const {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (!same_bits(weights_[i], other.weights_[i])) return false;
    return true;
  }

  /// One backward pass: hands (dY, X) of each layer to the tuner, the last layer's first.
  /// @return the loss
  template <class Tuner>
  R backward(Tuner& tuner, samples<R> const& data) const {
    auto const batch = std::ssize(data.x) / in;
    auto h = linear(data.x, weights_[0], weights_[1], in);
    for (auto& value : h) value = std::tanh(value);
    auto dy = linear(h, weights_[2], weights_[3], hidden);  // the output, then its gradient in place
    R loss = 0;
    auto const count = static_cast<R>(dy.size());
    for (std::size_t i = 0; i < dy.size(); ++i) {
      auto const error = dy[i] - data.y[i];
      loss += error * error / count;
      dy[i] = 2 * error / count;
    }
    tuner["fc2.weight"].accumulate(view(dy.data(), {batch, out}), view(h.data(), {batch, hidden}));
    tuner["fc2.bias"].accumulate_bias(view(dy.data(), {batch, out}));

    std::vector<R> dh(h.size());
    for (std::size_t i = 0; i < dh.size(); ++i) {
      auto const b = i / hidden;
      for (std::size_t o = 0; o < out; ++o) dh[i] += dy[b * out + o] * at(weights_[2], o * hidden + i % hidden);
      dh[i] *= 1 - h[i] * h[i];
    }
    tuner["fc1.weight"].accumulate(view(dh.data(), {batch, hidden}), view(data.x.data(), {batch, in}));
    tuner["fc1.bias"].accumulate_bias(view(dh.data(), {batch, hidden}));
    return loss;
  }

 private:
  [[nodiscard]] static R at(std::vector<T> const& weights, std::size_t i) { return static_cast<R>(widen(weights[i])); }

  /// x Wᵀ + b
  [[nodiscard]] static std::vector<R> linear(std::vector<R> const& x, std::vector<T> const& weight,
                                             std::vector<T> const& bias, std::size_t width) {
    std::vector<R> y;
    for (std::size_t b = 0; b < x.size() / width; ++b)
      for (std::size_t o = 0; o < bias.size(); ++o) {
        R sum = at(bias, o);
        for (std::size_t i = 0; i < width; ++i) sum += x[b * width + i] * at(weight, o * width + i);
        y.push_back(sum);
      }
    return y;
  }

  std::array<std::vector<T>, 4> weights_;
};

}  // namespace sara::test
