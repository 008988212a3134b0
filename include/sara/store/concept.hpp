// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/host_device.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// How the positions of one tensor are held in the backend's memory: the owner of a Positions value.
///
///     Store(backend, shape, positions, count)   // from ascending row-major int64 positions in the backend's memory
///     store.ref()                               // a trivially copyable Positions value for loops and kernels
///     store.bytes()                             // exactly what it holds in the backend's memory
///
/// A store is built with for_each alone, from named function objects (nvcc takes no lambda in a constructor), so that
/// one text serves the host and a CUDA device.
template <class S, class Backend>
concept SparseParameterStore = std::movable<S> && TensorBackend<Backend> &&
    requires(S const s, Backend const backend, matrix_shape shape, std::int64_t const* positions, std::int64_t count) {
  S(backend, shape, positions, count);
  { s.ref() } -> Positions;
  { s.count() } -> std::same_as<std::int64_t>;
  { s.bytes() } -> std::same_as<std::int64_t>;
};

/// Passes a store by its template's name: `sara::store_as<sara::bitmask>{}`.
template <template <class> class Store>
struct store_as {
  template <class Backend>
  using type = Store<Backend>;
};

namespace detail {

struct list_positions {
  std::int64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const { to[slot] = position; }
};

template <class Ref>
struct take_slots {
  Ref from;
  std::int64_t const* slots;
  std::int64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = from.position(slots[i]); }
};

}  // namespace detail

/// The store of the positions at these slots, ascending: M ∧ keep, for reselection.
/// @param slots  [count] int64, in the backend's memory
/// Extra memory: 8 bytes a kept slot, until return.
template <class Store, TensorBackend Backend>
requires SparseParameterStore<Store, Backend>
[[nodiscard]] Store keep_slots(Backend const& backend, Store const& store, std::int64_t const* slots,
                               std::int64_t count) {
  auto positions = backend.template allocate<std::int64_t>(count);
  auto from = store.ref();
  for_each(backend, all_positions{count}, detail::take_slots<decltype(from)>{from, slots, positions.data()});
  return Store(backend, from.shape(), positions.data(), count);
}

/// A store's positions, ascending, in host memory. Synchronises.
template <TensorBackend Backend, class Store>
requires SparseParameterStore<Store, Backend>
[[nodiscard]] std::vector<std::int64_t> positions_of(Backend const& backend, Store const& store) {
  auto positions = backend.template allocate<std::int64_t>(store.count());
  for_each(backend, store.ref(), detail::list_positions{positions.data()});
  std::vector<std::int64_t> out(static_cast<std::size_t>(store.count()));
  backend.download(positions.data(), std::span{out});
  return out;
}

}  // namespace sara
