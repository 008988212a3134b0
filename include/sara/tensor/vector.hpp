// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <sara/tensor/traits.hpp>

namespace sara {

/// A std::vector is a tensor of one dimension. For more, give it extents: sara/tensor/span.hpp.
template <Scalar T, class Allocator>
struct tensor_traits<std::vector<T, Allocator>> {
  using scalar = T;
  static tensor_view view(std::vector<T, Allocator>& tensor) {
    return {tensor.data(), extents{static_cast<std::int64_t>(tensor.size())}};
  }
  static const_tensor_view view(std::vector<T, Allocator> const& tensor) {
    return {tensor.data(), extents{static_cast<std::int64_t>(tensor.size())}};
  }
};

}  // namespace sara
