// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../parameter.hpp"

namespace unet {

/// Nearest-neighbour enlargement by 2: y[2r + a, 2c + b] = x[r, c].
template <class Real>
void enlarge(sara::thread_pool& pool, strips<Real const> const& x, strips<Real> const& y) {
  pool.parallel_for(x.channels, [&](std::int64_t channel) {
    for (std::int64_t n = 0; n < x.grid.batch; ++n)
      for (std::int64_t row = 0; row < y.grid.height; ++row) {
        Real const* const from = x.image(channel, n) + row / 2 * x.grid.pitch();
        Real* const to = y.image(channel, n) + row * y.grid.pitch();
        for (std::int64_t c = 0; c < x.grid.width; ++c) to[2 * c] = to[2 * c + 1] = from[c];
      }
  });
}

/// Gradient of `enlarge`: dx[r, c] is the sum of the four pixels it went to.
template <class Real>
void enlarge_backward(sara::thread_pool& pool, strips<Real const> const& dy, strips<Real> const& dx) {
  pool.parallel_for(dx.channels, [&](std::int64_t channel) {
    for (std::int64_t n = 0; n < dx.grid.batch; ++n)
      for (std::int64_t row = 0; row < dx.grid.height; ++row) {
        Real const* const upper = dy.image(channel, n) + 2 * row * dy.grid.pitch();
        Real const* const lower = upper + dy.grid.pitch();
        Real* const to = dx.image(channel, n) + row * dx.grid.pitch();
        for (std::int64_t c = 0; c < dx.grid.width; ++c)
          to[c] = (upper[2 * c] + upper[2 * c + 1]) + (lower[2 * c] + lower[2 * c + 1]);
      }
  });
}

}  // namespace unet
