// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/tensor/dtype.hpp>

namespace sara::cuda::detail {

/// A row-major operand of a matrix product, or its transpose.
struct operand {
  void const* data;
  dtype type;
  std::int64_t pitch;  ///< elements from one row to the next, in memory
  bool transposed = false;
  std::int64_t stride = 0;  ///< elements from one matrix to the next, where there are several

  template <Scalar T>
  [[nodiscard]] static operand of(T const* data, std::int64_t pitch, bool transposed = false, std::int64_t stride = 0) {
    return {data, dtype_of<T>, pitch, transposed, stride};
  }
};

/// Rows, columns and inner dimension of a product, and how many products of equal shape there are.
struct product_shape {
  std::int64_t rows, cols, inner;
  std::int64_t count = 1;
};

}  // namespace sara::cuda::detail
