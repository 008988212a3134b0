// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

template <Scalar T>
struct set_one {
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = narrow<T>(widened<T>{1}); }
};

/// A tensor of ones of any extents that holds a single element: its strides are zero.
/// A bias is the weight of an input that is always one; with this it needs no kernel of its own. Of dY's dtype, so that
/// the product converts neither.
template <TensorBackend Backend>
class ones {
 public:
  ones(Backend const& backend, dtype type) : type_{type}, one_{backend.template allocate<double>(1)} {
    visit(type_,
          [&]<class T>() { for_each(backend, all_positions{1}, set_one<T>{reinterpret_cast<T*>(one_.data())}); });
  }
  [[nodiscard]] const_tensor_view view(extents const& shape) const {
    extents stride = shape;
    for (int d = 0; d < shape.rank(); ++d) stride[d] = 0;
    return visit(type_, [&]<class T>() {
      return const_tensor_view{reinterpret_cast<T const*>(one_.data()), shape, stride, Backend::where};
    });
  }

 private:
  dtype type_;
  typename Backend::template buffer<double> one_;  // room for any dtype
};

}  // namespace sara::detail
