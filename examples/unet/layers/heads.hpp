// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "../parameter.hpp"
#include "attention.hpp"
#include "silu.hpp"

namespace unet {

/// The heads of an attention layer on the host.
/// At most 64 pixels an image and 64 channels a head: the matrices of one head then live on the stack.
template <class Real>
class attention_heads {
 public:
  explicit attention_heads(std::int64_t channels) : channels_{channels} {}

  /// @throws std::invalid_argument  if the matrices of a head would not fit
  void check(grid const& where) const {
    if (where.pixels() > limit || size() > limit)
      throw std::invalid_argument{"attention: expected at most 64 pixels and 64 channels a head, got " +
                                  std::to_string(where.pixels()) + " and " + std::to_string(size())};
  }

  /// mixed = softmax(QᵀK / √d) V, image by image and head by head.
  /// @param qkv    Q, K and V, 3 · channels
  /// @param mixed  channels
  void forward(context<Real> const& run, strips<Real const> const& qkv, strips<Real> const& mixed) const {
    run.pool.parallel_for(qkv.grid.batch * heads, [&](std::int64_t task) {
      auto const n = task / heads, head = task % heads;
      matrix const q = read(qkv, head, n), k = read(qkv, heads + head, n), v = read(qkv, 2 * heads + head, n);
      matrix const weights = softmax(q, k);
      write(product(v, weights.transpose()), mixed, head, n);
    });
  }

  void backward(context<Real> const& run, strips<Real const> const& qkv, strips<Real const> const& dmixed,
                strips<Real> const& dqkv) const {
    run.pool.parallel_for(qkv.grid.batch * heads, [&](std::int64_t task) {
      auto const n = task / heads, head = task % heads;
      matrix const q = read(qkv, head, n), k = read(qkv, heads + head, n), v = read(qkv, 2 * heads + head, n),
                   dout = read(dmixed, head, n);
      matrix const weights = softmax(q, k);
      matrix dlogits = product(dout.transpose(), v);
      // Softmax, row by row: dlogits = P ⊙ (dP - Σ P ⊙ dP), then the factor of the logits.
      for (Eigen::Index i = 0; i < dlogits.rows(); ++i) {
        auto const mean = weights.row(i).dot(dlogits.row(i));
        dlogits.row(i) = (weights.row(i).array() * (dlogits.row(i).array() - mean) * factor()).matrix();
      }
      write(product(k, dlogits.transpose()), dqkv, head, n);
      write(product(q, dlogits), dqkv, heads + head, n);
      write(product(dout, weights), dqkv, 2 * heads + head, n);
    });
  }

 private:
  static constexpr auto heads = attention_head_count;
  static constexpr int limit = 64;
  /// [channels of a head, pixels] or [pixels, pixels].
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor, limit, limit>;

  [[nodiscard]] std::int64_t size() const { return channels_ / heads; }

  template <class A, class B>
  [[nodiscard]] static matrix product(A const& a, B const& b) {
    matrix result(a.rows(), b.cols());
    result.noalias() = a * b;
    return result;
  }

  [[nodiscard]] Real factor() const { return 1 / std::sqrt(static_cast<Real>(size())); }

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

  [[nodiscard]] matrix read(strips<Real const> const& from, std::int64_t head, std::int64_t n) const {
    matrix m(size(), from.grid.pixels());
    for (std::int64_t c = 0; c < size(); ++c)
      for (std::int64_t row = 0; row < from.grid.height; ++row)
        for (std::int64_t column = 0; column < from.grid.width; ++column)
          m(c, row * from.grid.width + column) = from.image(head * size() + c, n)[row * from.grid.pitch() + column];
    return m;
  }

  void write(matrix const& m, strips<Real> const& to, std::int64_t head, std::int64_t n) const {
    for (std::int64_t c = 0; c < size(); ++c) {
      Real* const image = to.image(head * size() + c, n);
      for (std::int64_t row = 0; row < to.grid.height; ++row)
        for (std::int64_t column = 0; column < to.grid.width; ++column)
          image[row * to.grid.pitch() + column] = m(c, row * to.grid.width + column);
    }
  }

  std::int64_t channels_;
};

}  // namespace unet
