// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <type_traits>

#include <sara/error.hpp>
#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara {

/// Most dimensions that a tensor may have.
inline constexpr int max_rank = 8;

/// Up to eight extents or strides, in elements, held in place.
class extents {
 public:
  constexpr extents() = default;
  constexpr extents(std::initializer_list<std::int64_t> values) {
    for (auto const value : values) push_back(value);
  }
  /// @throws shape_error  past eight entries
  constexpr void push_back(std::int64_t value) {
    if (rank_ == max_rank)
      throw shape_error(detail::text("tensor: expected at most ", max_rank, " dimensions, got more"));
    values_[static_cast<std::size_t>(rank_++)] = value;
  }
  [[nodiscard]] constexpr int rank() const noexcept { return rank_; }
  [[nodiscard]] constexpr std::int64_t operator[](int i) const noexcept { return values_[static_cast<std::size_t>(i)]; }
  [[nodiscard]] constexpr std::int64_t& operator[](int i) noexcept { return values_[static_cast<std::size_t>(i)]; }
  /// Product of all entries; 1 for rank 0.
  [[nodiscard]] constexpr std::int64_t product() const noexcept {
    std::int64_t n = 1;
    for (int i = 0; i < max_rank; ++i) n *= i < rank_ ? (*this)[i] : 1;  // a fixed count, which GCC can follow
    return n;
  }
  [[nodiscard]] constexpr bool any_negative() const noexcept {
    return std::any_of(values_.begin(), values_.end(), [](std::int64_t value) { return value < 0; });
  }
  friend constexpr bool operator==(extents const&, extents const&) = default;
  friend std::ostream& operator<<(std::ostream& out, extents const& e) {
    out << '[';
    for (int i = 0; i < e.rank_; ++i) out << (i ? ", " : "") << e[i];
    return out << ']';
  }

 private:
  std::array<std::int64_t, max_rank> values_{};
  int rank_ = 0;
};

/// Strides of a dense row-major tensor, in elements.
[[nodiscard]] constexpr extents row_major_strides(extents const& shape) {
  extents strides = shape;
  std::int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

/// Where a tensor's elements live. A backend accepts one kind and says so clearly when given another.
enum class memory : std::uint8_t { host, cuda };

inline std::ostream& operator<<(std::ostream& out, memory m) {
  return out << (m == memory::host ? "host memory" : "CUDA device memory");
}

/// The elements of a tensor in logical row-major order, as a trivially copyable value for loops and kernels.
/// Element i is that with the row-major index i whatever the strides are; O(1) when dense, O(rank) otherwise.
template <class T>
struct entries {
  T* data = nullptr;
  std::int64_t count = 0;
  bool dense = true;
  int rank = 0;
  std::int64_t shape[max_rank] = {};
  std::int64_t stride[max_rank] = {};

  [[nodiscard]] SARA_HOST_DEVICE std::int64_t offset(std::int64_t i) const {
    if (dense) return i;
    std::int64_t at = 0;
    for (int d = rank - 1; d >= 0; --d) {
      at += (i % shape[d]) * stride[d];
      i /= shape[d];
    }
    return at;
  }
  [[nodiscard]] SARA_HOST_DEVICE T& operator[](std::int64_t i) const { return data[offset(i)]; }
};

/// A tensor that somebody else owns: pointer, element type, extents, strides in elements, memory.
///
/// Byte is std::byte for tensors that the library writes, std::byte const for those that it reads.
/// Copying a view copies nothing but the view; it must not outlive the tensor.
template <class Byte>
class basic_tensor_view {
  template <class T>
  using like = std::conditional_t<std::is_const_v<Byte>, T const, T>;

 public:
  basic_tensor_view() = default;

  /// @param data    first element, aligned for T
  /// @param shape   extents, all ≥ 0
  /// @param stride  elements from one index to the next in each dimension, as many as extents; may be 0 or negative
  /// @throws shape_error  for a negative extent, strides of another rank, or a null pointer with elements
  template <class T>
  requires Scalar<std::remove_const_t<T>> &&(std::is_const_v<Byte> || !std::is_const_v<T>)
      basic_tensor_view(T* data, extents const& shape, extents const& stride, memory where = memory::host)
      : data_{reinterpret_cast<Byte*>(data)},
        shape_{shape},
        stride_{stride},
        type_{dtype_of<std::remove_const_t<T>>},
        memory_{where} {
    detail::require<shape_error>(shape.rank() == stride.rank(), "tensor: expected ", shape.rank(),
                                 " strides for extents ", shape, ", got ", stride.rank());
    detail::require<shape_error>(!shape.any_negative(), "tensor: expected extents of at least 0, got ", shape);
    detail::require<shape_error>(data != nullptr || size() == 0, "tensor of extents ", shape,
                                 ": expected a pointer to its elements, got null");
  }

  /// Dense row-major.
  template <class T>
  requires Scalar<std::remove_const_t<T>> &&
      (std::is_const_v<Byte> || !std::is_const_v<T>)basic_tensor_view(T* data, extents const& shape,
                                                                      memory where = memory::host)
      : basic_tensor_view{data, shape, row_major_strides(shape), where} {}

  /// Any view can be read.
  template <class Other>
  requires(std::is_const_v<Byte> && !std::is_const_v<Other>)
      basic_tensor_view(basic_tensor_view<Other> const& other)  // NOLINT(google-explicit-constructor)
      : data_{other.bytes()},
        shape_{other.shape()},
        stride_{other.stride()},
        type_{other.type()},
        memory_{other.where()} {}

  [[nodiscard]] Byte* bytes() const noexcept { return data_; }
  [[nodiscard]] extents const& shape() const noexcept { return shape_; }
  [[nodiscard]] extents const& stride() const noexcept { return stride_; }
  [[nodiscard]] dtype type() const noexcept { return type_; }
  [[nodiscard]] memory where() const noexcept { return memory_; }
  [[nodiscard]] int rank() const noexcept { return shape_.rank(); }
  /// Number of elements.
  [[nodiscard]] std::int64_t size() const noexcept { return shape_.product(); }

  /// Whether the elements lie one after the other in row-major order.
  [[nodiscard]] bool dense() const noexcept {
    std::int64_t step = 1;
    for (int i = rank() - 1; i >= 0; --i) {
      if (shape_[i] != 1 && stride_[i] != step) return false;
      step *= shape_[i];
    }
    return true;
  }

  /// The elements as T, which must be the tensor's own type.
  /// @throws dtype_error  otherwise
  template <Scalar T>
  [[nodiscard]] entries<like<T>> as() const {
    detail::require<dtype_error>(type_ == dtype_of<T>, "tensor: expected ", dtype_of<T>, " elements, got ", type_);
    entries<like<T>> out{reinterpret_cast<like<T>*>(data_), size(), dense(), rank(), {}, {}};
    for (int i = 0; i < rank(); ++i) {
      out.shape[i] = shape_[i];
      out.stride[i] = stride_[i];
    }
    return out;
  }

 private:
  Byte* data_ = nullptr;
  extents shape_{0};
  extents stride_{1};
  dtype type_ = dtype::float32;
  memory memory_ = memory::host;
};

/// A tensor that is trained or written.
using tensor_view = basic_tensor_view<std::byte>;
/// A tensor that is only read.
using const_tensor_view = basic_tensor_view<std::byte const>;

/// A weight [out, in, …] seen as a matrix: the first extent by the product of the others.
/// A vector of n entries is [n, 1], a scalar [1, 1].
struct matrix_shape {
  std::int64_t rows = 1;
  std::int64_t cols = 1;

  [[nodiscard]] static constexpr matrix_shape of(extents const& shape) {
    if (shape.rank() == 0) return {};
    extents rest = shape;
    rest[0] = 1;
    return {shape[0], rest.product()};
  }
  [[nodiscard]] constexpr std::int64_t size() const noexcept { return rows * cols; }
  friend constexpr bool operator==(matrix_shape, matrix_shape) = default;
};

}  // namespace sara
