// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <type_traits>

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara {

/// x = √x, for kernels that are written for numbers and vectors of them. In place: what returns a vector depends on the
/// instruction set in its calling convention.
template <Real R>
SARA_HOST_DEVICE void take_square_root(R& x) {
  x = std::sqrt(x);
}

#ifndef __CUDACC__
/// The same of every lane of a vector (GCC's and Clang's vector extension); through Eigen, since std::sqrt must set
/// errno, which keeps compilers from vectorising it. Within two units in the last place.
template <class V>
requires(!Real<V> && requires(V v) { v[0]; }) [[gnu::always_inline]] inline void take_square_root(V& x) {
  using number = std::remove_cvref_t<decltype(x[0])>;
  Eigen::Map<Eigen::Array<number, sizeof(V) / sizeof(number), 1>> lanes(reinterpret_cast<number*>(&x));
  lanes = lanes.sqrt();
}
#endif

}  // namespace sara
