// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <ostream>
#include <vector>

namespace sara::torch::detail {

/// Where a tensor's elements are, and as what. A view is valid as long as this stays: what converts or loads a module
/// gives its tensors other memory, and frees that which they had.
struct placement {
  void const* data;
  at::ScalarType type;
  at::Device device;
  std::vector<std::int64_t> strides;

  [[nodiscard]] static placement of(at::Tensor const& tensor) {
    return {tensor.data_ptr(), tensor.scalar_type(), tensor.device(), tensor.strides().vec()};
  }
  friend bool operator==(placement const&, placement const&) = default;
  friend std::ostream& operator<<(std::ostream& out, placement const& p) { return out << p.type << " on " << p.device; }
};

}  // namespace sara::torch::detail
