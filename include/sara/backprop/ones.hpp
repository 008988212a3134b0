// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/concept.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

template <Real R>
struct set_one {
  R* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = R{1}; }
};

/// A tensor of ones of any extents that holds a single element: its strides are zero.
/// A bias is the weight of an input that is always one; with this it needs no kernel of its own.
template <TensorBackend Backend, Real R>
class ones {
 public:
  explicit ones(Backend const& backend) : one_{backend.template allocate<R>(1)} {
    for_each(backend, all_positions{1}, set_one<R>{one_.data()});
  }
  [[nodiscard]] const_tensor_view view(extents const& shape) const {
    extents stride = shape;
    for (int d = 0; d < shape.rank(); ++d) stride[d] = 0;
    return const_tensor_view{one_.data(), shape, stride, Backend::where};
  }

 private:
  typename Backend::template buffer<R> one_;
};

}  // namespace sara::detail
