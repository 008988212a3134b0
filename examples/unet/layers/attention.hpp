// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "../parameter.hpp"

namespace unet {

/// Heads of every attention layer; the channels are divided among them.
inline constexpr std::int64_t attention_head_count = 4;

/// Residual multi-head self-attention over the pixels of each image:
///   y = x + proj(softmax(QᵀK / √d) V),  [Q; K; V] = qkv(norm(x))
/// @tparam Layers  what it is made of, and where it is computed: see network.hpp
template <class Layers>
class basic_attention {
  using context = typename Layers::context;
  using activation = typename Layers::activation;
  using const_activation = typename Layers::const_activation;

 public:
  basic_attention(std::string const& name, std::int64_t channels)
      : channels_{channels},
        heads_{channels},
        norm_{name + ".norm", channels, false},
        qkv_{name + ".qkv", channels, 3 * channels, {1, 1}},
        proj_{name + ".proj", channels, channels, {1, 1}, true} {}

  void forward(context const& run, const_activation const& x, activation const& y) {
    heads_.check(x.grid);
    x_ = x;
    normal_ = run.memory.take(channels_, x.grid);
    qkv_out_ = run.memory.take(3 * channels_, x.grid);
    mixed_ = run.memory.take(channels_, x.grid);
    norm_.forward(run, x, normal_);
    qkv_.forward(run, normal_, qkv_out_);
    heads_.forward(run, qkv_out_, mixed_);
    proj_.forward(run, mixed_, y, x);
    if (!run.training) release();
  }

  /// @param dx  overwritten; not dy
  template <class Sink>
  void backward(context const& run, const_activation const& dy, activation const& dx, Sink& sink) {
    auto const grid = dy.grid;
    auto dmixed = run.memory.take(channels_, grid);
    proj_.backward_weight(run, dy, mixed_, sink);
    proj_.backward_input(run, dy, dmixed);
    mixed_.reset();
    auto dqkv = run.memory.take(3 * channels_, grid);
    heads_.backward(run, qkv_out_, dmixed, dqkv);
    qkv_out_.reset();
    qkv_.backward_weight(run, dqkv, normal_, sink);
    qkv_.backward_input(run, dqkv, dmixed);
    norm_.backward(run, dmixed, x_, dx, sink, dy);
    release();
  }

  template <class F>
  void each_parameter(F&& f) {
    norm_.each_parameter(f);
    qkv_.each_parameter(f);
    proj_.each_parameter(f);
  }

 private:
  void release() {
    normal_.reset();
    qkv_out_.reset();
    mixed_.reset();
  }

  std::int64_t channels_;
  typename Layers::attention_heads heads_;
  typename Layers::group_norm norm_;
  typename Layers::convolution qkv_;
  typename Layers::convolution proj_;
  const_activation x_;
  typename Layers::buffer normal_;
  typename Layers::buffer qkv_out_;
  typename Layers::buffer mixed_;
};

}  // namespace unet
