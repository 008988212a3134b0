// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// A copy of a column in host memory. Synchronises.
template <TensorBackend Backend, Real R>
[[nodiscard]] std::vector<R> on_host(Backend const& backend, R const* column, std::int64_t count) {
  std::vector<R> out(static_cast<std::size_t>(count));
  backend.download(column, std::span{out});
  return out;
}

/// A tensor's values at the positions of a store, in host memory. Synchronises.
template <Real R, TensorBackend Backend, class Store>
[[nodiscard]] std::vector<R> values_on_host(Backend const& backend, const_tensor_view const& weights,
                                            Store const& store) {
  auto values = backend.template allocate<R>(store.count());
  gather(backend, weights, store.ref(), values.data());
  return on_host(backend, static_cast<R const*>(values.data()), store.count());
}

}  // namespace sara::detail
