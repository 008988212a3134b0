// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <omp.h>
#include <dnnl.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

namespace bench {

inline dnnl::engine const& onednn_engine() {
  static dnnl::engine const engine{dnnl::engine::kind::cpu, 0};
  return engine;
}

/// Describes a primitive over these operands. oneDNN 2 has a descriptor of the operation between, oneDNN 3 none.
template <class Primitive, class... Operands>
typename Primitive::primitive_desc describe(Operands const&... of) {
#if DNNL_VERSION_MAJOR < 3
  return {typename Primitive::desc{of...}, onednn_engine()};
#else
  return {onednn_engine(), of...};
#endif
}

/// The same for a backward pass, whose layouts suit the forward pass.
template <class Primitive, class Forward, class... Operands>
typename Primitive::primitive_desc describe_backward(Forward const& forward, Operands const&... of) {
#if DNNL_VERSION_MAJOR < 3
  return {typename Primitive::desc{of...}, onednn_engine(), forward};
#else
  return {onednn_engine(), of..., forward};
#endif
}

/// The dense weight gradient dYᵀX by oneDNN's matmul, then the wanted entries of it.
/// @tparam T  of dY and X, float or sara::bfloat16; sums are float32
template <class T>
class onednn_linear {
  using tag = dnnl::memory::format_tag;
  static constexpr auto f32 = dnnl::memory::data_type::f32;
  static constexpr auto type = std::is_same_v<T, float> ? f32 : dnnl::memory::data_type::bf16;

 public:
  onednn_linear(std::int64_t batch, std::int64_t out, std::int64_t in, std::vector<std::int32_t> index, int threads)
      : threads_{threads},
        index_{std::move(index)},
        dense_(static_cast<std::size_t>(out * in)),
        gradient_(index_.size()) {
    omp_set_num_threads(threads);  // a primitive is made for as many
    dnnl::memory::desc const dy{{out, batch}, type, tag::ba}, x{{batch, in}, type, tag::ab},
        dw{{out, in}, f32, tag::ab};
    product_ = dnnl::matmul{describe<dnnl::matmul>(dy, x, dw)};
    dy_ = {dy, onednn_engine(), nullptr};
    x_ = {x, onednn_engine(), nullptr};
    dw_ = {dw, onednn_engine(), dense_.data()};
  }

  void run(T const* dy, T const* x) {
    omp_set_num_threads(threads_);
    dy_.set_data_handle(const_cast<T*>(dy));
    x_.set_data_handle(const_cast<T*>(x));
    product_.execute(stream_, {{DNNL_ARG_SRC, dy_}, {DNNL_ARG_WEIGHTS, x_}, {DNNL_ARG_DST, dw_}});
    stream_.wait();
    for (std::size_t j = 0; j < index_.size(); ++j) gradient_[j] = dense_[static_cast<std::size_t>(index_[j])];
  }

  [[nodiscard]] std::vector<float> const& gradient() const { return gradient_; }
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(4 * (index_.size() + dense_.size() + gradient_.size()));
  }

 private:
  int threads_;
  dnnl::stream stream_{onednn_engine()};
  std::vector<std::int32_t> index_;
  std::vector<float> dense_;
  std::vector<float> gradient_;
  dnnl::matmul product_;
  dnnl::memory dy_, x_, dw_;
};

/// Extents of a convolution with square kernel, stride 1 and padding that keeps the size.
struct convolution_size {
  std::int64_t batch, in, out, side, kernel;
  [[nodiscard]] std::int64_t padding() const { return (kernel - 1) / 2; }
};

/// The dense weight gradient of a convolution in oneDNN's own blocked layouts, then the wanted entries of it.
/// Inputs are put into these layouts beforehand, as a framework that keeps its activations blocked would have them.
class onednn_convolution {
  using tag = dnnl::memory::format_tag;
  static constexpr auto f32 = dnnl::memory::data_type::f32;

 public:
  /// @param dy, x  NCHW; read here only
  /// @param index  positions in the weight [out, in, kernel, kernel]
  onednn_convolution(convolution_size const& s, float const* dy, float const* x, std::vector<std::int32_t> const& index,
                     int threads)
      : threads_{threads}, index_(index.size()), gradient_(index.size()) {
    omp_set_num_threads(threads);  // a primitive is made for as many, its layouts too
    dnnl::memory::dims const x_dims{s.batch, s.in, s.side, s.side}, dy_dims{s.batch, s.out, s.side, s.side},
        w_dims{s.out, s.in, s.kernel, s.kernel}, one{1, 1}, pad{s.padding(), s.padding()};
    auto const any = [](dnnl::memory::dims const& dims) { return dnnl::memory::desc{dims, f32, tag::any}; };
    auto const algorithm = dnnl::algorithm::convolution_direct;
    auto const forward = describe<dnnl::convolution_forward>(dnnl::prop_kind::forward_training, algorithm, any(x_dims),
                                                             any(w_dims), any(dy_dims), one, pad, pad);
    auto const backward = describe_backward<dnnl::convolution_backward_weights>(
        forward, algorithm, any(x_dims), any(w_dims), any(dy_dims), one, pad, pad);
    backward_ = dnnl::convolution_backward_weights{backward};
    x_ = reordered(x, x_dims, backward.src_desc());
    dy_ = reordered(dy, dy_dims, backward.diff_dst_desc());
    dw_ = {backward.diff_weights_desc(), onednn_engine()};
    dense_ = static_cast<float const*>(dw_.get_data_handle());

    // Where each entry of the weight lies in the blocked layout: send numbers there, and see. 0 is padding.
    std::vector<float> numbers(static_cast<std::size_t>(s.out * s.in * s.kernel * s.kernel));
    std::iota(numbers.begin(), numbers.end(), 1.0F);  // exact: below 2^24
    auto const placed = reordered(numbers.data(), w_dims, backward.diff_weights_desc());
    auto const* const number = static_cast<float const*>(placed.get_data_handle());
    std::vector<std::int32_t> place(numbers.size());
    for (std::size_t i = 0; i < backward.diff_weights_desc().get_size() / sizeof(float); ++i)
      if (number[i] > 0) place[static_cast<std::size_t>(number[i]) - 1] = static_cast<std::int32_t>(i);
    std::transform(index.begin(), index.end(), index_.begin(),
                   [&](std::int32_t i) { return place[static_cast<std::size_t>(i)]; });
  }

  void run() {
    omp_set_num_threads(threads_);
    backward_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_DIFF_DST, dy_}, {DNNL_ARG_DIFF_WEIGHTS, dw_}});
    stream_.wait();
    for (std::size_t j = 0; j < index_.size(); ++j) gradient_[j] = dense_[index_[j]];
  }

  [[nodiscard]] std::vector<float> const& gradient() const { return gradient_; }
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(4 * (index_.size() + gradient_.size()) + dw_.get_desc().get_size());
  }

 private:
  dnnl::memory reordered(float const* from, dnnl::memory::dims const& dims, dnnl::memory::desc const& to) {
    dnnl::memory plain{{dims, f32, tag::abcd}, onednn_engine(), const_cast<float*>(from)};
    dnnl::memory result{to, onednn_engine()};
    dnnl::reorder{plain, result}.execute(stream_, plain, result);
    stream_.wait();
    return result;
  }

  int threads_;
  dnnl::stream stream_{onednn_engine()};
  std::vector<std::int32_t> index_;
  std::vector<float> gradient_;
  dnnl::convolution_backward_weights backward_;
  dnnl::memory x_, dy_, dw_;
  float const* dense_ = nullptr;
};

}  // namespace bench
