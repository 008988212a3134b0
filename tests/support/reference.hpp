// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <sara/backend/convolution.hpp>
#include <sara/tensor/view.hpp>

#include "layout.hpp"

namespace sara::test {

/// dYᵀ X of dY [batch, out] and X [batch, in], dense, in float64.
[[nodiscard]] inline std::vector<double> linear_gradient(const_tensor_view const& dy, const_tensor_view const& x) {
  auto const out = dy.shape()[dy.rank() - 1];
  auto const in = x.shape()[x.rank() - 1];
  auto const g = values_of(dy);
  auto const v = values_of(x);
  std::vector<double> dw(static_cast<std::size_t>(out * in));
  for (std::int64_t b = 0; b < dy.size() / out; ++b)
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = 0; i < in; ++i)
        dw[static_cast<std::size_t>(o * in + i)] +=
            g[static_cast<std::size_t>(b * out + o)] * v[static_cast<std::size_t>(b * in + i)];
  return dw;
}

/// The gradient of a convolution's weight [out, in / groups, kernel, kernel], dense, in float64, by definition.
[[nodiscard]] inline std::vector<double> conv2d_gradient(extents const& weight, const_tensor_view const& dy,
                                                         const_tensor_view const& x, conv2d_geometry const& g) {
  auto const grad = values_of(dy);
  auto const in = values_of(x);
  auto const at = [](extents const& shape, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
    return static_cast<std::size_t>(((n * shape[1] + c) * shape[2] + h) * shape[3] + w);
  };
  std::vector<double> dw(static_cast<std::size_t>(weight.product()));
  for (std::int64_t o = 0; o < weight[0]; ++o)
    for (std::int64_t i = 0; i < weight[1]; ++i)
      for (std::int64_t kh = 0; kh < weight[2]; ++kh)
        for (std::int64_t kw = 0; kw < weight[3]; ++kw) {
          auto const channel = o / (weight[0] / g.groups) * weight[1] + i;
          double sum = 0;
          for (std::int64_t n = 0; n < dy.shape()[0]; ++n)
            for (std::int64_t oh = 0; oh < dy.shape()[2]; ++oh)
              for (std::int64_t ow = 0; ow < dy.shape()[3]; ++ow) {
                auto const h = oh * g.stride[0] + kh * g.dilation[0] - g.padding[0];
                auto const w = ow * g.stride[1] + kw * g.dilation[1] - g.padding[1];
                if (h < 0 || h >= x.shape()[2] || w < 0 || w >= x.shape()[3]) continue;
                sum += grad[at(dy.shape(), n, o, oh, ow)] * in[at(x.shape(), n, channel, h, w)];
              }
          dw[at(weight, o, i, kh, kw)] = sum;
        }
  return dw;
}

/// What is at the positions.
template <class T>
[[nodiscard]] std::vector<T> at_positions(std::vector<T> const& dense, std::vector<std::int64_t> const& positions) {
  std::vector<T> out;
  for (auto const p : positions) out.push_back(dense[static_cast<std::size_t>(p)]);
  return out;
}

}  // namespace sara::test
