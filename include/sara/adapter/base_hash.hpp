// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include <sara/backend/concept.hpp>
#include <sara/backend/counter_random.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

namespace detail {

template <class T>
struct hash_entry {
  entries<T const> from;
  [[nodiscard]] SARA_HOST_DEVICE std::uint64_t operator()(std::int64_t, std::int64_t i) const {
    std::uint64_t bits = 0;
    if constexpr (sizeof(T) == 8)
      bits = std::bit_cast<std::uint64_t>(from[i]);
    else if constexpr (sizeof(T) == 4)
      bits = std::bit_cast<std::uint32_t>(from[i]);
    else
      bits = from[i].bits;
    return mix_bits(bits ^ mix_bits(static_cast<std::uint64_t>(i)));
  }
};

}  // namespace detail

/// A hash of a tensor's dtype and elements in logical order: tells base weights apart, not against forgery.
/// A sum of hashed elements modulo 2^64, so any backend and thread count gives the same.
/// Complexity: one read of the tensor. Synchronises.
template <TensorBackend Backend>
[[nodiscard]] std::uint64_t base_hash(Backend const& backend, const_tensor_view const& tensor) {
  auto sum = backend.template allocate<std::uint64_t>(1);
  visit(tensor.type(), [&]<class T>() {
    reduce(backend, all_positions{tensor.size()}, detail::hash_entry<T>{tensor.template as<T>()}, sum.data());
  });
  std::uint64_t hash = 0;
  backend.download(sum.data(), std::span{&hash, 1});
  return mix_bits(hash + static_cast<std::uint64_t>(tensor.type()));
}

}  // namespace sara
