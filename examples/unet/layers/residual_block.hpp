// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attention.hpp"
#include "convolution.hpp"
#include "group_norm.hpp"
#include "linear.hpp"
#include "resize.hpp"

namespace unet {

/// y = skip(x) + conv2(silu(modulate(norm2(conv1(silu(norm1(x)))))))
/// with scale and shift from the embedding; skip is a 1x1 convolution where the number of channels changes.
template <class Real>
class residual_block {
 public:
  residual_block(std::string const& name, std::int64_t in, std::int64_t out, std::int64_t embedding)
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
  void forward(context<Real> const& run, strips<Real const> const& x, matrix_view<Real const> embedding,
               strips<Real> const& y) {
    x_ = x;
    embedded_ = embedding;
    active1_ = run.memory.take(in_, x.grid);
    norm1_.forward(run, x, active1_);
    hidden_ = run.memory.take(out_, x.grid);
    conv1_.forward(run, active1_, hidden_);
    if (!run.training) active1_.reset();
    modulation_.resize(static_cast<std::size_t>(x.grid.batch * 2 * out_));
    embedding_.forward(embedding, {modulation_.data(), x.grid.batch, 2 * out_});
    active2_ = run.memory.take(out_, x.grid);
    norm2_.forward(run, hidden_, active2_, {modulation_.data(), x.grid.batch, 2 * out_});
    if (skip_)
      skip_->forward(run, x, y);
    else
      copy_strips<Real>(run.pool, x, y);
    conv2_.forward(run, active2_, y, true);
    if (!run.training) release();
  }

  /// @param dx          overwritten; not dy
  /// @param dembedding  [batch, width], added to
  template <gradient_sink<Real> Sink>
  void backward(context<Real> const& run, strips<Real const> const& dy, strips<Real> const& dx,
                matrix_view<Real> dembedding, Sink& sink) {
    conv2_.backward_weight(run, dy, active2_, sink);
    active2_.reset();
    auto dhidden = run.memory.take(out_, dy.grid);
    conv2_.backward_input(run, dy, dhidden);
    dmodulation_.resize(modulation_.size());
    matrix_view<Real> const dmodulation{dmodulation_.data(), dy.grid.batch, 2 * out_};
    norm2_.backward(run, dhidden, hidden_, dhidden, sink, false, {modulation_.data(), dy.grid.batch, 2 * out_},
                    dmodulation);
    hidden_.reset();
    embedding_.backward_weight(dmodulation, embedded_, sink);
    embedding_.backward_input(dmodulation, dembedding, true);
    conv1_.backward_weight(run, dhidden, active1_, sink);
    active1_.reset();
    auto dactive = run.memory.take(in_, dy.grid);
    conv1_.backward_input(run, dhidden, dactive);
    if (skip_) {
      skip_->backward_weight(run, dy, x_, sink);
      skip_->backward_input(run, dy, dx);
    } else {
      copy_strips<Real>(run.pool, dy, dx);
    }
    norm1_.backward(run, dactive, x_, dx, sink, true);
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
  group_norm<Real> norm1_;
  convolution<Real> conv1_;
  linear<Real> embedding_;
  group_norm<Real> norm2_;
  convolution<Real> conv2_;
  std::optional<convolution<Real>> skip_;
  strips<Real const> x_;
  matrix_view<Real const> embedded_;
  std::vector<Real> modulation_;
  std::vector<Real> dmodulation_;
  strip_buffer<Real> active1_;
  strip_buffer<Real> hidden_;
  strip_buffer<Real> active2_;
};

/// What one level of the network does at its resolution: a residual block, then attention where the level has it.
template <class Real>
class stage {
 public:
  stage(std::string const& name, std::int64_t in, std::int64_t out, std::int64_t embedding, bool attend)
      : out_{out}, block_{name + ".block", in, out, embedding} {
    if (attend) attention_.emplace(name + ".attention", out);
  }

  void forward(context<Real> const& run, strips<Real const> const& x, matrix_view<Real const> embedding,
               strips<Real> const& y) {
    if (!attention_) return block_.forward(run, x, embedding, y);
    between_ = run.memory.take(out_, x.grid);
    block_.forward(run, x, embedding, between_);
    attention_->forward(run, between_, y);
    if (!run.training) between_.reset();
  }

  template <gradient_sink<Real> Sink>
  void backward(context<Real> const& run, strips<Real const> const& dy, strips<Real> const& dx,
                matrix_view<Real> dembedding, Sink& sink) {
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
  residual_block<Real> block_;
  std::optional<attention<Real>> attention_;
  strip_buffer<Real> between_;
};

}  // namespace unet
