// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>

#include <cstdint>

#include "../planes.hpp"

namespace unet {

namespace detail {

/// y[2r + a, 2c + b] = x[r, c]; the images of a batch are as good as one high image.
template <class Real>
struct enlarge {
  Real const* x;
  Real* y;
  std::int32_t width;  // of y
  std::int64_t pitch;  // of y
  SARA_HOST_DEVICE void operator()(std::int64_t channel, std::int32_t p) const {
    auto const row = p / width, column = p % width;
    y[channel * pitch + p] = x[channel * (pitch / 4) + static_cast<std::int64_t>(row / 2) * (width / 2) + column / 2];
  }
};

/// dx[r, c] is the sum of the four pixels it went to.
template <class Real>
struct enlarge_backward {
  Real const* dy;
  Real* dx;
  std::int32_t width;  // of dx
  std::int64_t pitch;  // of dx
  SARA_HOST_DEVICE void operator()(std::int64_t channel, std::int32_t p) const {
    auto const row = p / width, column = p % width;
    Real const* const upper =
        dy + channel * (4 * pitch) + static_cast<std::int64_t>(2 * row) * (2 * width) + 2 * column;
    Real const* const lower = upper + 2 * width;
    dx[channel * pitch + p] = (upper[0] + upper[1]) + (lower[0] + lower[1]);
  }
};

}  // namespace detail

/// Nearest-neighbour enlargement by 2, on a device.
template <executor Executor, class Real>
void device_enlarge(device_context<Executor> const& run, planes<Real const> const& x, planes<Real> const& y) {
  run.machine.launch(y.channels, y.pitch(),
                     detail::enlarge<Real>{x.first, y.first, static_cast<std::int32_t>(y.grid.width), y.pitch()});
}

/// Its gradient.
template <executor Executor, class Real>
void device_enlarge_backward(device_context<Executor> const& run, planes<Real const> const& dy,
                             planes<Real> const& dx) {
  run.machine.launch(
      dx.channels, dx.pitch(),
      detail::enlarge_backward<Real>{dy.first, dx.first, static_cast<std::int32_t>(dx.grid.width), dx.pitch()});
}

}  // namespace unet
