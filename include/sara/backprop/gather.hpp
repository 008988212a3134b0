// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

namespace detail {

template <class T, Real R>
struct gather_entry {
  entries<T const> from;
  R* to;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    to[slot] = static_cast<R>(widen(from[position]));
  }
  void prefetch(std::int64_t position) const { __builtin_prefetch(&from[position]); }
};

template <class T, Real R>
struct add_entry {
  entries<T const> from;
  R* to;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    to[slot] += static_cast<R>(widen(from[position]));
  }
  void prefetch(std::int64_t position) const { __builtin_prefetch(&from[position]); }
};

/// A tensor of the positions' matrix, its elements in rows: of any rank, or all in one dimension.
template <Positions P, class Byte>
void require_shape(char const* what, P positions, basic_tensor_view<Byte> const& tensor) {
  auto const expected = positions.shape();
  require<shape_error>(
      tensor.rank() == 1 ? tensor.size() == expected.size() : matrix_shape::of(tensor.shape()) == expected, what,
      ": expected a tensor of ", expected.rows, " rows of ", expected.cols, " elements, got extents ", tensor.shape());
}

}  // namespace detail

/// values[j] = tensor[position_j]: the compact column of a tensor.  (SaRA, eq. 2: p = P[M])
///
/// @param tensor  of the positions' size, any dtype and strides, in the backend's memory
/// @param values  [count], float32 or float64; 16-bit and float32 entries are widened exactly
/// @throws shape_error, memory_error
/// Complexity: O(count). No extra memory. Does not synchronise.
/// Example: tests/backprop/gather.cpp
template <TensorBackend Backend, Positions P, Real R>
void gather(Backend const& backend, const_tensor_view const& tensor, P positions, R* values) {
  require_memory(backend, "gather", tensor);
  detail::require_shape("gather", positions, tensor);
  visit(tensor.type(), [&]<class T>() {
    for_each(backend, positions, detail::gather_entry<T, R>{tensor.template as<T>(), values});
  });
}

/// gradient[j] += dW[position_j]: unstructural backpropagation for engines that hand one layer's dense gradient.
/// Afterwards dW may be freed.  (SaRA, eq. 7: ∇p = ∇P[M])
///
/// @param dw        of the positions' size, any dtype and strides, in the backend's memory
/// @param gradient  [count]
/// @throws shape_error, memory_error
/// Complexity: O(count). No extra memory. Does not synchronise.
/// Example: tests/backprop/gather.cpp
template <TensorBackend Backend, Positions P, Real R>
void accumulate(Backend const& backend, const_tensor_view const& dw, P positions, R* gradient) {
  require_memory(backend, "accumulate(dW)", dw);
  detail::require_shape("accumulate(dW)", positions, dw);
  visit(dw.type(), [&]<class T>() {
    for_each(backend, positions, detail::add_entry<T, R>{dw.template as<T>(), gradient});
  });
}

}  // namespace sara
