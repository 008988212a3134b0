// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "layers/convolution.hpp"
#include "layers/embedding.hpp"
#include "layers/group_norm.hpp"
#include "layers/heads.hpp"
#include "layers/linear.hpp"
#include "layers/resize.hpp"
#include "parameter.hpp"
#include "strips.hpp"

namespace unet {

/// Copies an image [channels, height, width] into its place in the strips.
template <class Real, class Value>
void write_image(strips<Real> const& to, std::int64_t n, Value&& value) {
  auto const& where = to.grid;
  std::size_t i = 0;
  for (std::int64_t c = 0; c < to.channels; ++c) {
    Real* const image = to.image(c, n);
    for (std::int64_t row = 0; row < where.height; ++row)
      for (std::int64_t column = 0; column < where.width; ++column, ++i) image[row * where.pitch() + column] = value(i);
  }
}

/// Memory for one matrix, kept between two passes.
template <class Real>
class host_matrix {
 public:
  /// A matrix of undefined values.
  matrix_view<Real> take(context<Real> const&, std::int64_t rows, std::int64_t columns) {
    values_.resize(static_cast<std::size_t>(rows * columns));
    view_ = {values_.data(), rows, columns};
    return view_;
  }
  [[nodiscard]] matrix_view<Real> view() const { return view_; }

 private:
  std::vector<Real> values_;
  matrix_view<Real> view_;
};

/// The network's layers on the host: threads, padded strips, the kernels of kernels.hpp.
template <class Real>
struct host_layers {
  using real = Real;
  using machine = sara::thread_pool;
  using context = unet::context<Real>;
  using memory = workspace<Real>;
  using buffer = strip_buffer<Real>;
  using activation = strips<Real>;
  using const_activation = strips<Real const>;
  using matrix = matrix_view<Real>;
  using const_matrix = matrix_view<Real const>;
  using matrix_memory = host_matrix<Real>;
  using parameter = unet::parameter<Real>;
  using linear = unet::linear<Real>;
  using convolution = unet::convolution<Real>;
  using group_norm = unet::group_norm<Real>;
  using attention_heads = unet::attention_heads<Real>;
  using embedding = unet::embedding<Real>;
  static constexpr auto where = sara::memory::host;

  static sara::thread_pool& pool(machine& pool) { return pool; }
  static memory make_memory(machine&) { return {}; }

  static void enlarge(context const& run, const_activation const& x, activation const& y) {
    unet::enlarge<Real>(run.pool, x, y);
  }
  static void enlarge_backward(context const& run, const_activation const& dy, activation const& dx) {
    unet::enlarge_backward<Real>(run.pool, dy, dx);
  }

  /// Pictures [batch, channels, height, width] of the host become an activation, and back.
  static void write(context const& run, std::span<Real const> pictures, activation const& to) {
    auto const size = static_cast<std::size_t>(to.channels * to.grid.pixels());
    run.pool.parallel_for(to.grid.batch, [&](std::int64_t n) {
      auto const picture = pictures.subspan(static_cast<std::size_t>(n) * size, size);
      write_image(to, n, [&](std::size_t i) { return picture[i]; });
    });
  }
  static void read(context const& run, const_activation const& from, std::span<Real> pictures) {
    auto const& grid = from.grid;
    run.pool.parallel_for(grid.batch, [&](std::int64_t n) {
      Real* to = pictures.data() + n * from.channels * grid.pixels();
      for (std::int64_t c = 0; c < from.channels; ++c)
        for (std::int64_t row = 0; row < grid.height; ++row)
          to = std::copy_n(from.image(c, n) + row * grid.pitch(), grid.width, to);
    });
  }

  /// Strips as the NCHW tensor that they are.
  static sara::const_tensor_view as_tensor(const_activation const& x) {
    auto const& at = x.grid;
    return {x.first, {at.batch, x.channels, at.height, at.width}, {at.image_pitch(), x.pitch, at.pitch(), 1}};
  }
  /// Hands the factors of a convolution weight's gradient to a sara::tensor_handle.
  template <class Handle>
  static void accumulate(Handle& handle, const_activation const& dy, const_activation const& x,
                         convolution_geometry const& geometry) {
    handle.accumulate(
        as_tensor(dy), as_tensor(x),
        {.stride = {geometry.stride, geometry.stride}, .padding = {geometry.padding(), geometry.padding()}});
  }

  /// The dense gradient of a weight, overwritten.
  static void weight_gradient(context const&, const_matrix const& dy, const_matrix const& x, matrix const& gradient) {
    as_eigen(gradient).noalias() = as_eigen(dy).transpose() * as_eigen(x);
  }
  static void weight_gradient(context const& run, const_activation const& dy, const_activation const& x,
                              convolution_geometry const& geometry, matrix const& gradient) {
    std::span<Real> const values{gradient.data, static_cast<std::size_t>(gradient.rows * gradient.columns)};
    std::fill(values.begin(), values.end(), Real{0});
    convolution_weight_gradient<Real>(run, dy, x, geometry, values);
  }
};

}  // namespace unet
