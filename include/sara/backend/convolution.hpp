// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include <sara/error.hpp>
#include <sara/host_device.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// How a two-dimensional convolution walks: everything but its channels and kernel size, which the weight tells.
/// Two numbers each: along the height, along the width.
struct conv2d_geometry {
  std::array<std::int64_t, 2> stride{1, 1};
  std::array<std::int64_t, 2> padding{0, 0};
  std::array<std::int64_t, 2> dilation{1, 1};
  std::int64_t groups = 1;
};

/// All extents of one convolution, checked: x [batch, in, height, width], weight [out, in / groups, kernel[0],
/// kernel[1]], y [batch, out, out_height, out_width].
struct conv2d_shape {
  std::int64_t batch, in, height, width, out, out_height, out_width;
  std::array<std::int64_t, 2> kernel;
  conv2d_geometry geometry;

  [[nodiscard]] SARA_HOST_DEVICE std::int64_t in_per_group() const { return in / geometry.groups; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t out_per_group() const { return out / geometry.groups; }
  /// The weight as a matrix [out, in / groups · kernel[0] · kernel[1]].
  [[nodiscard]] matrix_shape matrix() const { return {out, in_per_group() * kernel[0] * kernel[1]}; }

  /// @param weight  extents of the weight, [out, in / groups, kernel[0], kernel[1]]
  /// @param dy      extents of the output's gradient, NCHW
  /// @param x       extents of the input, NCHW
  /// @throws shape_error  unless they belong to one convolution
  /// @throws value_error  for a stride, dilation or group count below 1, a negative padding, or one above 2^31
  [[nodiscard]] static conv2d_shape of(extents const& weight, extents const& dy, extents const& x,
                                       conv2d_geometry const& g) {
    using detail::require;
    require<shape_error>(weight.rank() == 4 && dy.rank() == 4 && x.rank() == 4,
                         "conv2d: expected weight, dY and X of 4 dimensions, got ", weight, ", ", dy, " and ", x);
    constexpr auto most = std::int64_t{1} << 31;  // no product of them and an extent overflows
    for (std::size_t i = 0; i < 2; ++i)
      require<value_error>(g.stride[i] >= 1 && g.dilation[i] >= 1 && g.padding[i] >= 0 && g.stride[i] <= most &&
                               g.dilation[i] <= most && g.padding[i] <= most,
                           "conv2d: expected stride >= 1, dilation >= 1, padding >= 0 and none above 2^31, got ",
                           g.stride[i], ", ", g.dilation[i], ", ", g.padding[i]);
    require<value_error>(g.groups >= 1, "conv2d: expected groups >= 1, got ", g.groups);
    auto const output = [&](int d) {
      auto const i = static_cast<std::size_t>(d);
      auto const reach = x[2 + d] + 2 * g.padding[i] - g.dilation[i] * (weight[2 + d] - 1) - 1;
      return reach < 0 ? 0 : reach / g.stride[i] + 1;
    };
    require<shape_error>(x[1] == weight[1] * g.groups && weight[0] % g.groups == 0, "conv2d: expected X of ",
                         weight[1] * g.groups, " channels and out channels divisible by ", g.groups,
                         " groups for weight ", weight, ", got X ", x);
    extents const expected{x[0], weight[0], output(0), output(1)};
    require<shape_error>(dy == expected, "conv2d: expected dY ", expected, " for weight ", weight, " and X ", x,
                         ", got ", dy);
    return {x[0], x[1], x[2], x[3], dy[1], dy[2], dy[3], {weight[2], weight[3]}, g};
  }
};

}  // namespace sara
