// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include <sara/tensor/traits.hpp>

namespace sara {

/// A std::span that knows its extents: a dense row-major tensor over plain memory whose type tells its element type.
///
///     sara::shaped_span{std::span{weights}, {out, in}}
template <class T>
requires Scalar<std::remove_const_t<T>>
class shaped_span {
 public:
  /// @throws shape_error  unless the product of the extents is the number of elements
  shaped_span(std::span<T> data, extents const& shape) : data_{data}, shape_{shape} {
    detail::require<shape_error>(shape.product() == static_cast<std::int64_t>(data.size()), "shaped_span: expected ",
                                 shape.product(), " elements for extents ", shape, ", got ", data.size());
  }
  [[nodiscard]] std::span<T> data() const noexcept { return data_; }
  [[nodiscard]] extents const& shape() const noexcept { return shape_; }

 private:
  std::span<T> data_;
  extents shape_;
};

template <class T>
struct tensor_traits<shaped_span<T>> {
  using scalar = std::remove_const_t<T>;
  static auto view(shaped_span<T> const& tensor) { return sara::view(tensor.data().data(), tensor.shape()); }
};

/// A std::span without extents is a tensor of one dimension.
template <class T, std::size_t Extent>
requires Scalar<std::remove_const_t<T>>
struct tensor_traits<std::span<T, Extent>> {
  using scalar = std::remove_const_t<T>;
  static auto view(std::span<T, Extent> const& tensor) {
    return sara::view(tensor.data(), extents{static_cast<std::int64_t>(tensor.size())});
  }
};

}  // namespace sara
