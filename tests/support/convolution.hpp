// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include <sara/backend/convolution.hpp>
#include <sara/tensor/view.hpp>

namespace sara::test {

/// The extents of one convolution.
struct convolution {
  extents weight, x;
  conv2d_geometry geometry;

  [[nodiscard]] extents dy() const {
    extents out{x[0], weight[0], 0, 0};
    for (int d = 0; d < 2; ++d) {
      auto const i = static_cast<std::size_t>(d);
      auto const reach = x[2 + d] + 2 * geometry.padding[i] - geometry.dilation[i] * (weight[2 + d] - 1) - 1;
      out[2 + d] = reach < 0 ? 0 : reach / geometry.stride[i] + 1;
    }
    return out;
  }
};

}  // namespace sara::test
