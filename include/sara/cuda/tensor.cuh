// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>
#include <thrust/device_vector.h>

#include <cstdint>
#include <type_traits>

#include <sara/cuda/buffer.hpp>
#include <sara/cuda/error.hpp>
#include <sara/tensor/traits.hpp>

namespace sara {

/// One dimension, in device memory. Longer extents: sara::cuda::view(vector.data().get(), extents).
template <Scalar T, class Allocator>
struct tensor_traits<thrust::device_vector<T, Allocator>> {
  using scalar = T;
  static tensor_view view(thrust::device_vector<T, Allocator>& tensor) {
    return {tensor.data().get(), extents{static_cast<std::int64_t>(tensor.size())}, memory::cuda};
  }
  static const_tensor_view view(thrust::device_vector<T, Allocator> const& tensor) {
    return {tensor.data().get(), extents{static_cast<std::int64_t>(tensor.size())}, memory::cuda};
  }
};

template <Scalar T>
struct tensor_traits<cuda::buffer<T>> {
  using scalar = T;
  static tensor_view view(cuda::buffer<T>& tensor) {
    return {tensor.data(), extents{static_cast<std::int64_t>(tensor.size())}, memory::cuda};
  }
  static const_tensor_view view(cuda::buffer<T> const& tensor) {
    return {tensor.data(), extents{static_cast<std::int64_t>(tensor.size())}, memory::cuda};
  }
};

namespace cuda {

/// A dense row-major tensor behind a pointer to device or managed memory.
/// @throws memory_error  for a pointer that no device may read
/// Asks the driver once; sara::view(data, shape, memory::cuda) does not ask.
template <class T>
requires Scalar<std::remove_const_t<T>>
[[nodiscard]] auto view(T* data, extents const& shape) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
  sara::detail::require<memory_error>(
      shape.product() == 0 || attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged,
      "cuda::view of extents ", shape, ": expected a pointer to device memory, got one to host memory");
  return sara::view(data, shape, memory::cuda);
}

}  // namespace cuda
}  // namespace sara
