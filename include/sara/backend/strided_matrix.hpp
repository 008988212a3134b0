// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/error.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// A tensor [..., channels] as a matrix [rows, cols] with strides, of any dtype.
struct strided_matrix {
  const_tensor_view tensor;
  std::int64_t rows, cols, row_stride, col_stride;
};

/// Joins the leading dimensions.
/// @throws shape_error  where these are not equally spaced in memory
[[nodiscard]] inline strided_matrix as_matrix(char const* what, const_tensor_view const& v) {
  require<shape_error>(v.rank() >= 1, what, ": expected extents [..., channels], got a scalar");
  int const last = v.rank() - 1;
  if (v.size() == 0) return {v, 0, v.shape()[last], 0, v.stride()[last]};  // a framework's strides of it mean nothing
  std::int64_t rows = 1;
  std::int64_t stride = 0;
  for (int d = last - 1; d >= 0; --d) {
    if (v.shape()[d] == 1) continue;
    require<shape_error>(rows == 1 || v.stride()[d] == rows * stride, what,
                         ": expected leading dimensions that join to one (make the tensor contiguous), got extents ",
                         v.shape(), " with strides ", v.stride());
    if (rows == 1) stride = v.stride()[d];
    rows *= v.shape()[d];
  }
  return {v, rows, v.shape()[last], stride, v.stride()[last]};
}

}  // namespace sara::detail
