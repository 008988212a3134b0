// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "examples/unet/cuda/executor.hpp"

namespace unet::test {

/// The executor of device layers as plain loops and Eigen's products on the host: the bodies that a CUDA device runs,
/// without one.
///
/// It takes the liberties that its contract leaves: loops run backwards, sums are in two halves, memory begins as NaN
/// (also what a beta of zero overwrites), and there is room for few columns, so that convolutions work in parts.
template <class Real>
class plain_executor {
 public:
  using real = Real;
  static constexpr auto where = sara::memory::host;

  template <class T>
  class buffer {
   public:
    buffer() = default;
    explicit buffer(std::int64_t n) : data_{std::make_unique<T[]>(static_cast<std::size_t>(n))} {
      std::memset(static_cast<void*>(data_.get()), 0xff, static_cast<std::size_t>(n) * sizeof(T));
    }
    [[nodiscard]] T* data() { return data_.get(); }
    [[nodiscard]] T const* data() const { return data_.get(); }

   private:
    std::unique_ptr<T[]> data_;
  };

  /// @param narrow       convolutions round their factors to bfloat16
  /// @param column_room  of one part of a convolution
  explicit plain_executor(bool narrow = false, std::int64_t column_room = 4000)
      : narrow_{narrow}, column_room_{column_room} {}

  template <class T>
  [[nodiscard]] buffer<T> allocate(std::int64_t n) const {
    return buffer<T>{n};
  }
  template <class T>
  void upload(std::span<T const> from, std::type_identity_t<T>* to) const {
    std::copy(from.begin(), from.end(), to);
  }
  template <class T>
  void download(std::type_identity_t<T> const* from, std::span<T> to) const {
    std::copy_n(from, to.size(), to.begin());
  }

  template <class F>
  void launch(std::int64_t rows, std::int64_t columns, F const& f) const {
    require_size(columns);
    for (auto row = rows; row-- > 0;)
      for (auto column = columns; column-- > 0;) f(row, static_cast<std::int32_t>(column));
  }

  template <class F, class Finish>
  void reduce(std::int64_t rows, std::int64_t columns, F const& f, Finish const& finish) const {
    require_size(columns);
    for (auto row = rows; row-- > 0;) {
      decltype(f(row, std::int32_t{})) sum[2] = {};
      for (std::int64_t column = 0; column < columns; ++column)
        sum[column % 2] = sum[column % 2] + f(row, static_cast<std::int32_t>(column));
      finish(row, sum[0] + sum[1]);
    }
  }

  template <class Operand>
  void multiply(matrix_product<Real, Operand> const& p) const {
    for (std::int64_t i = 0; i < p.count; ++i) {
      matrix const a = load(p.a, i, p.rows, p.depth), b = load(p.b, i, p.depth, p.columns), product = a * b;
      for (std::int64_t row = 0; row < p.rows; ++row)
        for (std::int64_t column = 0; column < p.columns; ++column) {
          auto& c = p.c[i * p.step + row * p.pitch + column];
          c = p.beta == 0 ? p.alpha * product(row, column) : p.alpha * product(row, column) + p.beta * c;
        }
    }
  }

  [[nodiscard]] bool narrow() const { return narrow_; }
  [[nodiscard]] std::int64_t column_room() const { return column_room_; }

 private:
  using matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  template <class Operand>
  [[nodiscard]] static matrix load(factor<Operand> const& f, std::int64_t i, std::int64_t rows, std::int64_t columns) {
    matrix out(rows, columns);
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t column = 0; column < columns; ++column)
        out(row, column) =
            static_cast<Real>(f.data[i * f.step + (f.transposed ? column * f.pitch + row : row * f.pitch + column)]);
    return out;
  }

  static void require_size(std::int64_t columns) {
    if (columns > std::numeric_limits<std::int32_t>::max())
      throw std::length_error{"plain_executor: expected a row of at most 2^31 - 1 numbers"};
  }

  bool narrow_;
  std::int64_t column_room_;
};

static_assert(executor<plain_executor<float>> && executor<plain_executor<double>>);

}  // namespace unet::test
