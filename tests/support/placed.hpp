// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/tensor/view.hpp>

namespace sara::test {

/// A column in a backend's memory, put there from the host.
template <class Backend, class T>
class placed {
 public:
  placed(Backend const& backend, std::vector<T> const& values)
      : backend_{backend}, data_{backend.template allocate<T>(std::ssize(values))} {
    backend_.upload(std::span<T const>{values}, data_.data());
  }

  [[nodiscard]] T* data() { return data_.data(); }
  [[nodiscard]] T const* data() const { return data_.data(); }
  [[nodiscard]] tensor_view view(extents const& shape) { return {data_.data(), shape, Backend::where}; }
  [[nodiscard]] const_tensor_view view(extents const& shape) const { return {data_.data(), shape, Backend::where}; }

  /// What is there now.
  [[nodiscard]] std::vector<T> get() const {
    std::vector<T> out(data_.size());
    backend_.download(data_.data(), std::span{out});
    return out;
  }

 private:
  Backend backend_;
  typename Backend::template buffer<T> data_;
};

template <class Backend, class T>
[[nodiscard]] placed<Backend, T> place(Backend const& backend, std::vector<T> const& values) {
  return {backend, values};
}

/// A store of these positions in a backend's memory.
template <class Store, class Backend>
[[nodiscard]] Store placed_store(Backend const& backend, matrix_shape shape,
                                 std::vector<std::int64_t> const& positions) {
  auto const there = place(backend, positions);
  return Store(backend, shape, there.data(), std::ssize(positions));
}

/// A tensor of any strides in a backend's memory: a copy of the host's, gaps and all.
template <class Backend>
class placed_tensor {
 public:
  /// @param span  elements of the host's memory from the first to the last
  placed_tensor(Backend const& backend, const_tensor_view const& v, std::int64_t span)
      : bytes_{backend, std::vector<std::byte>(v.bytes(), v.bytes() + span * size_of(v.type()))}, like_{v} {}

  [[nodiscard]] const_tensor_view view() const {
    return visit(like_.type(), [&]<class T>() {
      return const_tensor_view{reinterpret_cast<T const*>(bytes_.data()), like_.shape(), like_.stride(),
                               Backend::where};
    });
  }

 private:
  placed<Backend, std::byte> bytes_;
  const_tensor_view like_;
};

}  // namespace sara::test
