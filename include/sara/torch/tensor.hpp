// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <sara/error.hpp>
#include <sara/tensor/traits.hpp>

namespace sara {

namespace detail {

/// The elements of a libtorch tensor as T, which has the layout of its scalar type.
template <Scalar T>
[[nodiscard]] tensor_view view_of(at::Tensor const& tensor) {
  extents shape;
  extents stride;
  for (std::int64_t d = 0; d < tensor.dim(); ++d) {
    shape.push_back(tensor.size(d));
    stride.push_back(tensor.stride(d));
  }
  return {static_cast<T*>(tensor.data_ptr()), shape, stride, tensor.is_cuda() ? memory::cuda : memory::host};
}

}  // namespace detail

/// Tensors of libtorch: strided, of a floating-point type, on the CPU or a CUDA device. What a view writes is what the
/// tensor holds; autograd sees nothing of it.
///
/// As in libtorch, a const tensor is a handle that stays, not elements that do.
/// @throws value_error   for an undefined tensor, and one that is sparse, quantised, or a lazy conjugate or negation
/// @throws dtype_error   for another type than float64, float32, bfloat16 and float16
/// @throws memory_error  for another device
/// @throws shape_error   for more than eight dimensions
template <>
struct tensor_traits<at::Tensor> {
  static tensor_view view(at::Tensor const& tensor) {
    using detail::require;
    require<value_error>(tensor.defined(), "torch tensor: expected a defined one, got an undefined one");
    require<value_error>(
        tensor.layout() == at::kStrided && tensor.has_storage() && !tensor.is_conj() && !tensor.is_neg(),
        "torch tensor of sizes ", tensor.sizes(), ": expected plain strided elements, got layout ", tensor.layout(),
        tensor.is_conj() || tensor.is_neg() ? ", conjugated or negated lazily" : "");
    require<memory_error>(tensor.is_cpu() || tensor.is_cuda(), "torch tensor of sizes ", tensor.sizes(),
                          ": expected one on the CPU or a CUDA device, got ", tensor.device());
    switch (tensor.scalar_type()) {
      case at::kDouble:
        return detail::view_of<double>(tensor);
      case at::kFloat:
        return detail::view_of<float>(tensor);
      case at::kBFloat16:
        return detail::view_of<bfloat16>(tensor);
      case at::kHalf:
        return detail::view_of<float16>(tensor);
      default:
        throw dtype_error(detail::text("torch tensor of sizes ", tensor.sizes(),
                                       ": expected float64, float32, bfloat16 or float16, got ", tensor.scalar_type()));
    }
  }
};

namespace torch {

/// A range of (name, tensor), as fine_tuner and apply take it.
using named_tensors = std::vector<std::pair<std::string, at::Tensor>>;

}  // namespace torch
}  // namespace sara
