// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/thread_pool.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "random.hpp"
#include "strips.hpp"

namespace unet {

/// How the values of a parameter begin: uniform in [center - radius, center + radius].
struct initial {
  double center = 0;
  double radius = 0;
};

/// What is known of a learnable tensor wherever its values are, row-major: linear weights [out, in], convolution
/// weights [out, in, height, width].
struct described_parameter {
  described_parameter(std::string name_of, std::vector<std::int64_t> shape_of, initial begin_of = {})
      : name{std::move(name_of)}, shape{std::move(shape_of)}, begin{begin_of} {}
  described_parameter(described_parameter const&) = delete;
  described_parameter& operator=(described_parameter const&) = delete;

  [[nodiscard]] std::int64_t size() const {
    return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<std::int64_t>{});
  }

  std::string name;
  std::vector<std::int64_t> shape;
  initial begin;
  std::size_t index = 0;  ///< place in the model's list of parameters

 protected:
  ~described_parameter() = default;
};

/// One learnable tensor on the host. It stays where it is in memory for the life of the model; its values may be
/// changed by anybody between two passes.
template <class Real>
struct parameter : described_parameter {
  parameter(std::string name_of, std::vector<std::int64_t> shape_of, initial begin_of)
      : described_parameter{std::move(name_of), std::move(shape_of), begin_of} {
    values.resize(static_cast<std::size_t>(size()));
  }

  [[nodiscard]] Real* data() { return values.data(); }

  void initialise(std::uint64_t seed) {
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<Real>(begin.center + begin.radius * (2 * random_uniform(seed, i) - 1));
  }

  std::vector<Real> values;
};

/// A row-major matrix somebody else owns.
template <class Real>
struct matrix_view {
  Real* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  template <class Reader>
  requires std::same_as<Reader, Real const>
  operator matrix_view<Reader>() const { return {data, rows, columns}; }
};

/// Which convolution: square kernel, zero padding of (kernel - 1) / 2.
struct convolution_geometry {
  std::int64_t kernel = 3;
  std::int64_t stride = 1;

  [[nodiscard]] constexpr std::int64_t padding() const { return (kernel - 1) / 2; }
  [[nodiscard]] constexpr std::int64_t taps() const { return kernel * kernel; }
};

/// Who receives gradients in a backward pass.
///
/// Layers hand over the factors of a weight gradient, not the gradient, so that a sink which learns few weights never
/// makes the dense one. `wants` is asked first; what nobody wants is not computed.
///  - linear(p, dY [rows, out], X [rows, in]): the gradient of p is dYᵀ X
///  - convolution(p, dY, X, geometry): the gradient of p is the correlation of X with dY
///  - dense(p, gradient): biases, norms, embeddings
template <class Sink, class Real>
concept gradient_sink = requires(Sink& sink, parameter<Real> const& p, matrix_view<Real const> matrix,
                                 strips<Real const> activation, convolution_geometry geometry,
                                 std::span<Real const> gradient) {
  { sink.wants(p) } -> std::convertible_to<bool>;
  sink.linear(p, matrix, matrix);
  sink.convolution(p, activation, activation, geometry);
  sink.dense(p, gradient);
};

/// What a pass through a layer on the host needs besides its input.
template <class Real>
struct context {
  sara::thread_pool& pool;
  workspace<Real>& memory;
  bool training = false;  ///< keeps what the backward pass needs
};

}  // namespace unet
