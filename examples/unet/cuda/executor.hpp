// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace unet {

/// A factor of a product: row-major, its rows `pitch` apart. In a series of products, matrix i begins i · `step` later.
template <class T>
struct factor {
  T const* data = nullptr;
  std::int64_t pitch = 0;
  bool transposed = false;
  std::int64_t step = 0;
};

/// `count` row-major products C = alpha · A B + beta · C, with A [rows, depth] and B [depth, columns] once they are
/// transposed as asked for. With a beta of zero, C need not hold numbers.
template <class Real, class Operand = Real>
struct matrix_product {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;
  factor<Operand> a;
  factor<Operand> b;
  Real* c = nullptr;
  std::int64_t pitch = 0;
  std::int64_t step = 0;
  Real alpha = 1;
  Real beta = 0;
  std::int64_t count = 1;
};

/// Two sums that are taken together.
struct two_sums {
  double first = 0;
  double second = 0;

  SARA_HOST_DEVICE friend two_sums operator+(two_sums a, two_sums b) {
    return {a.first + b.first, a.second + b.second};
  }
};

namespace detail {
struct body_probe {
  void operator()(std::int64_t, std::int32_t) const {}
};
struct term_probe {
  two_sums operator()(std::int64_t, std::int32_t) const { return {}; }
};
struct finish_probe {
  void operator()(std::int64_t, two_sums) const {}
};
}  // namespace detail

/// Who runs the loops and products of the network on a device, in the order in which it is asked to, and maybe later
/// than that. A cheap value. Pointers are to its memory.
///
/// All that is special about a CUDA device is behind it: the bodies of the loops are function objects that also run on
/// the host, so that what a layer computes can be tested without a device.
///
/// - `real`: what it computes in; `where`: its memory, as sara calls it
/// - `allocate<T>(n)`: a buffer of n elements, with `data()`; may be destroyed while work that uses it is under way
/// - `upload(from, to)`, `download(from, to)`: as those of a sara::TensorBackend; `download` waits
/// - `launch(rows, columns, f)`: f(row, column) for each, in any order
/// - `reduce(rows, columns, f, finish)`: finish(row, Σ f(row, column)) for each row; the sum has its own fixed order
/// - `multiply(product)`: factors of type `real`, or bfloat16 where `real` is float; sums are in `real`
/// - `narrow()`: whether convolutions should round their factors to bfloat16
/// - `column_room()`: how many numbers the copies of a convolution's input should have at most
template <class E>
concept executor = std::copy_constructible<E> &&
    requires(E const e, std::int64_t n, std::span<typename E::real const> from, std::span<typename E::real> to,
             typename E::real* data, matrix_product<typename E::real> product) {
  { E::where } -> std::convertible_to<sara::memory>;
  { e.template allocate<std::byte>(n).data() } -> std::same_as<std::byte*>;
  e.upload(from, data);
  e.download(static_cast<typename E::real const*>(data), to);
  e.launch(n, n, detail::body_probe{});
  e.reduce(n, n, detail::term_probe{}, detail::finish_probe{});
  e.multiply(product);
  { e.narrow() } -> std::same_as<bool>;
  { e.column_room() } -> std::same_as<std::int64_t>;
};

}  // namespace unet
