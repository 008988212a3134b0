// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

namespace bench {

/// Square pictures and kernel, stride 1, and padding that keeps the size; an odd kernel.
struct square_convolution {
  std::int64_t out, in, side, kernel, batch;

  [[nodiscard]] SARA_HOST_DEVICE std::int64_t pixels() const { return side * side; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t padding() const { return (kernel - 1) / 2; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t taps() const { return kernel * kernel; }
  /// Columns of the weight as a matrix [out, in · kernel · kernel].
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t cols() const { return in * taps(); }
  /// Pixels of all pictures.
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t along() const { return batch * pixels(); }
};

/// to[(channel, tap), (picture, pixel)]: what each column of the weight is multiplied with.
template <class T>
struct copy_tap {
  square_convolution size;
  T const* x;  // NCHW
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
    auto const row = i / size.along(), picture = i % size.along() / size.pixels(), pixel = i % size.pixels();
    auto const tap = row % size.taps();
    auto const y = pixel / size.side + tap / size.kernel - size.padding();
    auto const column = pixel % size.side + tap % size.kernel - size.padding();
    bool const inside = y >= 0 && y < size.side && column >= 0 && column < size.side;
    to[i] = inside ? x[(picture * size.in + row / size.taps()) * size.pixels() + y * size.side + column]
                   : sara::narrow<T>(0.0F);
  }
};

/// to[channel, (picture, pixel)].
template <class T>
struct copy_channel {
  square_convolution size;
  T const* dy;  // NCHW
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
    auto const picture = i % size.along() / size.pixels();
    to[i] = dy[(picture * size.out + i / size.along()) * size.pixels() + i % size.pixels()];
  }
};

}  // namespace bench
