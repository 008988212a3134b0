// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>

#include <cmath>
#include <cstdint>

#include "../../layers/attention.hpp"
#include "../../layers/silu.hpp"
#include "../../parameter.hpp"
#include "../planes.hpp"

namespace unet {

namespace detail {

/// Softmax of a row, in place; column is the row's number.
template <class Real>
struct softmax {
  Real* logits;
  std::int64_t length;
  SARA_HOST_DEVICE void operator()(std::int64_t, std::int32_t row) const {
    Real* const p = logits + row * length;
    Real largest = p[0];
    for (std::int64_t j = 1; j < length; ++j) largest = p[j] > largest ? p[j] : largest;
    Real sum{0};
    for (std::int64_t j = 0; j < length; ++j) sum += p[j] = exponential(p[j] - largest);
    for (std::int64_t j = 0; j < length; ++j) p[j] /= sum;
  }
};

/// dlogits = P ⊙ (dP - Σ P ⊙ dP) · factor, in place of dP.
template <class Real>
struct softmax_backward {
  Real const* weights;
  Real* gradient;
  std::int64_t length;
  Real factor;
  SARA_HOST_DEVICE void operator()(std::int64_t, std::int32_t row) const {
    Real const* const p = weights + row * length;
    Real* const d = gradient + row * length;
    Real mean{0};
    for (std::int64_t j = 0; j < length; ++j) mean += p[j] * d[j];
    for (std::int64_t j = 0; j < length; ++j) d[j] = p[j] * (d[j] - mean) * factor;
  }
};

}  // namespace detail

/// The heads of an attention layer on a device: products of every image at once, head by head. In float32, whatever
/// the convolutions multiply: they are a hundredth of the work.
template <executor Executor>
class device_attention_heads {
  using real = typename Executor::real;
  using context = device_context<Executor>;
  using const_activation = planes<real const>;

 public:
  explicit device_attention_heads(std::int64_t channels) : size_{channels / attention_head_count} {}

  void check(grid const&) const {}  // any size

  /// mixed = softmax(QᵀK / √d) V, image by image and head by head.
  /// @param qkv    Q, K and V, 3 · channels
  /// @param mixed  channels
  void forward(context const& run, const_activation const& qkv, planes<real> const& mixed) const {
    auto const memory = take(run, qkv);
    auto* const weights = memory.template as<real>();
    softmax(run, qkv, weights);
    for (std::int64_t head = 0; head < attention_head_count; ++head)
      multiply(run, qkv.grid, size_, qkv.grid.pixels(), value(qkv, head), of_head(qkv, weights, head, true),
               of(mixed, head));
  }

  void backward(context const& run, const_activation const& qkv, const_activation const& dmixed,
                planes<real> const& dqkv) const {
    auto const weights_memory = take(run, qkv), gradient_memory = take(run, qkv);
    auto *const weights = weights_memory.template as<real>(), *const gradient = gradient_memory.template as<real>();
    auto const pixels = qkv.grid.pixels();
    softmax(run, qkv, weights);
    for (std::int64_t head = 0; head < attention_head_count; ++head)
      logits(run, qkv.grid, of(dmixed, head), value(qkv, head), 1, of_head(qkv, gradient, head));
    run.machine.launch(1, rows(qkv), detail::softmax_backward<real>{weights, gradient, pixels, scale()});
    for (std::int64_t head = 0; head < attention_head_count; ++head) {
      multiply(run, qkv.grid, size_, pixels, key(qkv, head), of_head(qkv, gradient, head, true), query(dqkv, head));
      multiply(run, qkv.grid, size_, pixels, query(qkv, head), of_head(qkv, gradient, head), key(dqkv, head));
      multiply(run, qkv.grid, size_, pixels, of(dmixed, head), of_head(qkv, weights, head), value(dqkv, head));
    }
  }

 private:
  /// A matrix of each image: [size, pixels] of one head, or [pixels, pixels] of logits.
  template <class T>
  struct of_images {
    T* data;
    std::int64_t pitch;
    std::int64_t step;
    bool transposed = false;

    operator factor<real>() const { return {data, pitch, transposed, step}; }
  };

  [[nodiscard]] real scale() const { return 1 / std::sqrt(static_cast<real>(size_)); }
  [[nodiscard]] static std::int64_t rows(const_activation const& qkv) {
    return attention_head_count * qkv.grid.batch * qkv.grid.pixels();
  }
  [[nodiscard]] static auto take(context const& run, const_activation const& qkv) {
    return run.memory.template take_elements<real>(rows(qkv) * qkv.grid.pixels());
  }

  template <class T>
  [[nodiscard]] of_images<T> of(planes<T> const& x, std::int64_t head) const {
    return {x.first + head * size_ * x.pitch(), x.pitch(), x.grid.pixels()};
  }
  template <class T>
  [[nodiscard]] of_images<T> query(planes<T> const& qkv, std::int64_t head) const {
    return of(qkv, head);
  }
  template <class T>
  [[nodiscard]] of_images<T> key(planes<T> const& qkv, std::int64_t head) const {
    return of(qkv, attention_head_count + head);
  }
  template <class T>
  [[nodiscard]] of_images<T> value(planes<T> const& qkv, std::int64_t head) const {
    return of(qkv, 2 * attention_head_count + head);
  }
  [[nodiscard]] static of_images<real> of_head(const_activation const& qkv, real* matrices, std::int64_t head,
                                               bool transposed = false) {
    auto const pixels = qkv.grid.pixels();
    return {matrices + head * qkv.grid.batch * pixels * pixels, pixels, pixels * pixels, transposed};
  }

  /// C = A B for every image.
  static void multiply(context const& run, grid const& where, std::int64_t rows, std::int64_t depth,
                       factor<real> const& a, factor<real> const& b, of_images<real> const& c, real alpha = 1) {
    run.machine.multiply(matrix_product<real>{.rows = rows,
                                              .columns = where.pixels(),
                                              .depth = depth,
                                              .a = a,
                                              .b = b,
                                              .c = c.data,
                                              .pitch = c.pitch,
                                              .step = c.step,
                                              .alpha = alpha,
                                              .count = where.batch});
  }
  /// C = alpha · AᵀB, [pixels, pixels].
  void logits(context const& run, grid const& where, factor<real> a, factor<real> const& b, real alpha,
              of_images<real> const& c) const {
    a.transposed = true;
    multiply(run, where, where.pixels(), size_, a, b, c, alpha);
  }
  /// P [head, image, query pixels, key pixels], rows summing to one.
  void softmax(context const& run, const_activation const& qkv, real* weights) const {
    for (std::int64_t head = 0; head < attention_head_count; ++head)
      logits(run, qkv.grid, query(qkv, head), key(qkv, head), scale(), of_head(qkv, weights, head));
    run.machine.launch(1, rows(qkv), detail::softmax<real>{weights, qkv.grid.pixels()});
  }

  std::int64_t size_;  // channels of a head
};

}  // namespace unet
