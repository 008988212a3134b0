// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "../parameter.hpp"
#include "attention.hpp"

namespace unet {

/// y = skip(x) + conv2(silu(modulate(norm2(conv1(silu(norm1(x)))))))
/// with scale and shift from the embedding; skip is a 1x1 convolution where the number of channels changes.
/// @tparam Layers  what it is made of, and where it is computed: see network.hpp
template <class Layers>
class basic_residual_block {
  using context = typename Layers::context;
  using activation = typename Layers::activation;
  using const_activation = typename Layers::const_activation;
  using matrix = typename Layers::matrix;
  using const_matrix = typename Layers::const_matrix;

 public:
  basic_residual_block(std::string const& name, std::int64_t in, std::int64_t out, std::int64_t embedding)
      : in_{in},
        out_{out},
        norm1_{name + ".norm1", in, true},
        conv1_{name + ".conv1", in, out, {3, 1}},
        embedding_{name + ".embedding", embedding, 2 * out},
        norm2_{name + ".norm2", out, true},
        conv2_{name + ".conv2", out, out, {3, 1}, true} {
    if (in != out) skip_.emplace(name + ".skip", in, out, convolution_geometry{1, 1});
  }

  /// @param embedding  [batch, width], activated; it and x must live until the backward pass
  void forward(context const& run, const_activation const& x, const_matrix embedding, activation const& y) {
    x_ = x;
    embedded_ = embedding;
    active1_ = run.memory.take(in_, x.grid);
    norm1_.forward(run, x, active1_);
    hidden_ = run.memory.take(out_, x.grid);
    conv1_.forward(run, active1_, hidden_);
    if (!run.training) active1_.reset();
    auto const modulation = modulation_.take(run, x.grid.batch, 2 * out_);
    embedding_.forward(run, embedding, modulation);
    active2_ = run.memory.take(out_, x.grid);
    norm2_.forward(run, hidden_, active2_, modulation);
    if (skip_) skip_->forward(run, x, y);
    conv2_.forward(run, active2_, y, skip_ ? const_activation(y) : x);
    if (!run.training) release();
  }

  /// @param dx          overwritten; not dy
  /// @param dembedding  [batch, width], added to
  template <class Sink>
  void backward(context const& run, const_activation const& dy, activation const& dx, matrix dembedding, Sink& sink) {
    conv2_.backward_weight(run, dy, active2_, sink);
    active2_.reset();
    auto dhidden = run.memory.take(out_, dy.grid);
    conv2_.backward_input(run, dy, dhidden);
    auto const dmodulation = dmodulation_.take(run, dy.grid.batch, 2 * out_);
    norm2_.backward(run, dhidden, hidden_, dhidden, sink, {}, modulation_.view(), dmodulation);
    hidden_.reset();
    embedding_.backward_weight(run, dmodulation, embedded_, sink);
    embedding_.backward_input(run, dmodulation, dembedding, true);
    conv1_.backward_weight(run, dhidden, active1_, sink);
    active1_.reset();
    auto dactive = run.memory.take(in_, dy.grid);
    conv1_.backward_input(run, dhidden, dactive);
    if (skip_) {
      skip_->backward_weight(run, dy, x_, sink);
      skip_->backward_input(run, dy, dx);
    }
    norm1_.backward(run, dactive, x_, dx, sink, skip_ ? const_activation(dx) : dy);
    release();
  }

  template <class F>
  void each_parameter(F&& f) {
    norm1_.each_parameter(f);
    conv1_.each_parameter(f);
    embedding_.each_parameter(f);
    norm2_.each_parameter(f);
    conv2_.each_parameter(f);
    if (skip_) skip_->each_parameter(f);
  }

 private:
  void release() {
    active1_.reset();
    hidden_.reset();
    active2_.reset();
  }

  std::int64_t in_;
  std::int64_t out_;
  typename Layers::group_norm norm1_;
  typename Layers::convolution conv1_;
  typename Layers::linear embedding_;
  typename Layers::group_norm norm2_;
  typename Layers::convolution conv2_;
  std::optional<typename Layers::convolution> skip_;
  const_activation x_;
  const_matrix embedded_;
  typename Layers::matrix_memory modulation_;
  typename Layers::matrix_memory dmodulation_;
  typename Layers::buffer active1_;
  typename Layers::buffer hidden_;
  typename Layers::buffer active2_;
};

/// What one level of the network does at its resolution: a residual block, then attention where the level has it.
template <class Layers>
class basic_stage {
  using context = typename Layers::context;
  using activation = typename Layers::activation;
  using const_activation = typename Layers::const_activation;

 public:
  basic_stage(std::string const& name, std::int64_t in, std::int64_t out, std::int64_t embedding, bool attend)
      : out_{out}, block_{name + ".block", in, out, embedding} {
    if (attend) attention_.emplace(name + ".attention", out);
  }

  void forward(context const& run, const_activation const& x, typename Layers::const_matrix embedding,
               activation const& y) {
    if (!attention_) return block_.forward(run, x, embedding, y);
    between_ = run.memory.take(out_, x.grid);
    block_.forward(run, x, embedding, between_);
    attention_->forward(run, between_, y);
    if (!run.training) between_.reset();
  }

  template <class Sink>
  void backward(context const& run, const_activation const& dy, activation const& dx,
                typename Layers::matrix dembedding, Sink& sink) {
    if (!attention_) return block_.backward(run, dy, dx, dembedding, sink);
    auto dbetween = run.memory.take(out_, dy.grid);
    attention_->backward(run, dy, dbetween, sink);
    between_.reset();
    block_.backward(run, dbetween, dx, dembedding, sink);
  }

  template <class F>
  void each_parameter(F&& f) {
    block_.each_parameter(f);
    if (attention_) attention_->each_parameter(f);
  }

 private:
  std::int64_t out_;
  basic_residual_block<Layers> block_;
  std::optional<basic_attention<Layers>> attention_;
  typename Layers::buffer between_;
};

}  // namespace unet
