// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

namespace detail {

template <class T, Real R>
struct scatter_entry {
  R const* from;
  entries<T> to;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    to[position] = narrow<T>(from[slot]);
  }
  void prefetch(std::int64_t position) const { __builtin_prefetch(&to[position], 1); }
};

}  // namespace detail

/// tensor[position_j] = values[j], everything else unchanged: the unstructural mapping UM(P, p, M).  (SaRA, eq. 6)
///
/// @param values  [count]; rounded to the tensor's dtype, to nearest
/// @param tensor  of the positions' size, any dtype and strides, in the backend's memory
/// @throws shape_error, memory_error
/// Complexity: O(count). No extra memory. Does not synchronise.
/// Example: tests/backprop/gather.cpp
template <TensorBackend Backend, Positions P, Real R>
void scatter(Backend const& backend, R const* values, P positions, tensor_view const& tensor) {
  require_memory(backend, "scatter", tensor);
  detail::require_shape("scatter", positions, tensor);
  visit(tensor.type(), [&]<class T>() {
    for_each(backend, positions, detail::scatter_entry<T, R>{values, tensor.template as<T>()});
  });
}

}  // namespace sara
