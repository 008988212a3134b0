// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

#include "convolution.hpp"
#include "group_norm.hpp"
#include "resize.hpp"

namespace unet {

/// Residual multi-head self-attention over the pixels of each image:
///   y = x + proj(softmax(QᵀK / √d) V),  [Q; K; V] = qkv(norm(x))
/// At most 64 pixels an image and 64 channels a head: the matrices of one head then live on the stack.
template <class Real>
class attention {
 public:
  static constexpr std::int64_t heads = 4;

  attention(std::string const& name, std::int64_t channels)
      : channels_{channels},
        norm_{name + ".norm", channels, false},
        qkv_{name + ".qkv", channels, 3 * channels, {1, 1}},
        proj_{name + ".proj", channels, channels, {1, 1}, true} {}

  void forward(context<Real> const& run, strips<Real const> const& x, strips<Real> const& y) {
    if (x.grid.pixels() > limit || channels_ / heads > limit)
      throw std::invalid_argument{"attention: expected at most 64 pixels and 64 channels a head, got " +
                                  std::to_string(x.grid.pixels()) + " and " + std::to_string(channels_ / heads)};
    x_ = x;
    normal_ = run.memory.take(channels_, x.grid);
    qkv_out_ = run.memory.take(3 * channels_, x.grid);
    mixed_ = run.memory.take(channels_, x.grid);
    norm_.forward(run, x, normal_);
    qkv_.forward(run, normal_, qkv_out_);
    run.pool.parallel_for(x.grid.batch * heads, [&](std::int64_t task) {
      auto const n = task / heads, head = task % heads;
      matrix const q = read(qkv_out_.view(), head, n), k = read(qkv_out_.view(), heads + head, n),
                   v = read(qkv_out_.view(), 2 * heads + head, n);
      matrix const weights = softmax(q, k);
      write(product(v, weights.transpose()), mixed_.view(), head, n);
    });
    copy_strips<Real>(run.pool, x, y);
    proj_.forward(run, mixed_, y, true);
    if (!run.training) release();
  }

  /// @param dx  overwritten; not dy
  template <gradient_sink<Real> Sink>
  void backward(context<Real> const& run, strips<Real const> const& dy, strips<Real> const& dx, Sink& sink) {
    auto const grid = dy.grid;
    auto dmixed = run.memory.take(channels_, grid);
    proj_.backward_weight(run, dy, mixed_, sink);
    proj_.backward_input(run, dy, dmixed);
    mixed_.reset();
    auto dqkv = run.memory.take(3 * channels_, grid);
    run.pool.parallel_for(grid.batch * heads, [&](std::int64_t task) {
      auto const n = task / heads, head = task % heads;
      matrix const q = read(qkv_out_.view(), head, n), k = read(qkv_out_.view(), heads + head, n),
                   v = read(qkv_out_.view(), 2 * heads + head, n), dout = read(dmixed.view(), head, n);
      matrix const weights = softmax(q, k);
      matrix dlogits = product(dout.transpose(), v);
      // Softmax, row by row: dlogits = P ⊙ (dP - Σ P ⊙ dP), then the factor of the logits.
      for (Eigen::Index i = 0; i < dlogits.rows(); ++i) {
        auto const mean = weights.row(i).dot(dlogits.row(i));
        dlogits.row(i) = (weights.row(i).array() * (dlogits.row(i).array() - mean) * factor()).matrix();
      }
      write(product(k, dlogits.transpose()), dqkv.view(), head, n);
      write(product(q, dlogits), dqkv.view(), heads + head, n);
      write(product(dout, weights), dqkv.view(), 2 * heads + head, n);
    });
    qkv_out_.reset();
    qkv_.backward_weight(run, dqkv, normal_, sink);
    qkv_.backward_input(run, dqkv, dmixed);
    copy_strips<Real>(run.pool, dy, dx);
    norm_.backward(run, dmixed, x_, dx, sink, true);
    release();
  }

  template <class F>
  void each_parameter(F&& f) {
    norm_.each_parameter(f);
    qkv_.each_parameter(f);
    proj_.each_parameter(f);
  }

 private:
  static constexpr int limit = 64;
  /// [channels of a head, pixels] or [pixels, pixels].
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, limit, limit>;

  void release() {
    normal_.reset();
    qkv_out_.reset();
    mixed_.reset();
  }

  template <class A, class B>
  [[nodiscard]] static matrix product(A const& a, B const& b) {
    matrix result(a.rows(), b.cols());
    result.noalias() = a * b;
    return result;
  }

  [[nodiscard]] Real factor() const {
    auto const depth = channels_ / heads;
    return 1 / std::sqrt(static_cast<Real>(depth));
  }

  /// P [query pixels, key pixels], rows summing to one.
  [[nodiscard]] matrix softmax(matrix const& q, matrix const& k) const {
    matrix p = product(q.transpose(), k);
    p *= factor();
    for (Eigen::Index i = 0; i < p.rows(); ++i) {
      auto const largest = p.row(i).maxCoeff();
      Real* const row = p.row(i).data();
      for (Eigen::Index j = 0; j < p.cols(); ++j) row[j] = exponential(row[j] - largest);
      p.row(i) /= p.row(i).sum();
    }
    return p;
  }

  [[nodiscard]] matrix read(strips<Real> const& from, std::int64_t head, std::int64_t n) const {
    auto const size = channels_ / heads;
    matrix m(size, from.grid.pixels());
    for (std::int64_t c = 0; c < size; ++c)
      for (std::int64_t row = 0; row < from.grid.height; ++row)
        for (std::int64_t column = 0; column < from.grid.width; ++column)
          m(c, row * from.grid.width + column) = from.image(head * size + c, n)[row * from.grid.pitch() + column];
    return m;
  }

  void write(matrix const& m, strips<Real> const& to, std::int64_t head, std::int64_t n) const {
    auto const size = channels_ / heads;
    for (std::int64_t c = 0; c < size; ++c) {
      Real* const image = to.image(head * size + c, n);
      for (std::int64_t row = 0; row < to.grid.height; ++row)
        for (std::int64_t column = 0; column < to.grid.width; ++column)
          image[row * to.grid.pitch() + column] = m(c, row * to.grid.width + column);
      zero_padding({1, to.grid.height, to.grid.width}, image, 0, to.grid.image_pitch());
    }
  }

  std::int64_t channels_;
  group_norm<Real> norm_;
  convolution<Real> qkv_;
  convolution<Real> proj_;
  strips<Real const> x_;
  strip_buffer<Real> normal_;
  strip_buffer<Real> qkv_out_;
  strip_buffer<Real> mixed_;
};

}  // namespace unet
