// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <concepts>
#include <type_traits>

#include <sara/tensor/traits.hpp>

namespace sara {
namespace detail {

template <class T>
struct eigen_scalar {
  using type = T;
};
template <>
struct eigen_scalar<Eigen::half> {
  using type = float16;
};
template <>
struct eigen_scalar<Eigen::bfloat16> {
  using type = bfloat16;
};

/// Eigen types that have elements of a dtype in memory: Matrix, Array, Map, Ref, Block of these.
template <class T>
concept EigenDirect = std::derived_from<T, Eigen::DenseBase<T>> && bool(T::Flags& Eigen::DirectAccessBit) &&
                      Scalar<typename eigen_scalar<typename T::Scalar>::type>;

}  // namespace detail

/// Eigen matrices, arrays, maps and blocks, of either storage order: extents [rows, cols], or [size] for vectors
/// known as such at compile time.
template <detail::EigenDirect T>
struct tensor_traits<T> {
  using scalar = typename detail::eigen_scalar<typename T::Scalar>::type;

  static tensor_view view(T& tensor) requires(bool(T::Flags& Eigen::LvalueBit)) {
    return make<tensor_view>(reinterpret_cast<scalar*>(tensor.data()), tensor);
  }
  static const_tensor_view view(T const& tensor) {
    return make<const_tensor_view>(reinterpret_cast<scalar const*>(tensor.data()), tensor);
  }

 private:
  template <class View, class S>
  static View make(S* data, T const& tensor) {
    if constexpr (T::IsVectorAtCompileTime)
      return View{data, extents{tensor.size()}, extents{tensor.innerStride()}};
    else
      return View{data, extents{tensor.rows(), tensor.cols()}, extents{tensor.rowStride(), tensor.colStride()}};
  }
};

}  // namespace sara
