// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "../parameter.hpp"
#include "../strips.hpp"
#include "executor.hpp"

namespace unet {

/// A view of an activation on a device: [channels, batch, height, width], dense. Channels come first, so that a
/// convolution of the whole batch is one product, and some of the channels are again dense.
template <class Real>
struct planes {
  Real* first = nullptr;
  std::int64_t channels = 0;
  unet::grid grid;

  /// Distance of two channels: the pixels of the batch.
  [[nodiscard]] std::int64_t pitch() const { return grid.batch * grid.pixels(); }
  [[nodiscard]] std::int64_t size() const { return channels * pitch(); }
  [[nodiscard]] planes slice(std::int64_t from, std::int64_t count) const {
    return {first + from * pitch(), count, grid};
  }
  template <class Reader>
  requires std::same_as<Reader, Real const>
  operator planes<Reader>() const { return {first, channels, grid}; }
};

/// Device memory that is handed out again once returned: from the second step on, nothing is allocated. All work on it
/// is in one order, so a block may be returned while work that uses it is still to come.
///
/// Not for use by several threads at once; it must outlive the blocks taken from it.
template <executor Executor>
class plane_memory {
  using real = typename Executor::real;
  using storage = decltype(std::declval<Executor const&>().template allocate<std::byte>(1));

 public:
  /// Owns some bytes and gives them back on destruction.
  class block {
   public:
    block() = default;
    block(block&& other) noexcept
        : owner_{std::exchange(other.owner_, nullptr)}, size_{other.size_}, bytes_{std::move(other.bytes_)} {}
    block& operator=(block&& other) noexcept {
      reset();
      owner_ = std::exchange(other.owner_, nullptr);
      size_ = other.size_;
      bytes_ = std::move(other.bytes_);
      return *this;
    }
    ~block() { reset(); }

    void reset() {
      if (auto* const owner = std::exchange(owner_, nullptr)) owner->free_.emplace(size_, std::move(bytes_));
    }
    template <class T>
    [[nodiscard]] T* as() const {
      return reinterpret_cast<T*>(const_cast<std::byte*>(bytes_.data()));
    }

   private:
    friend plane_memory;
    plane_memory* owner_ = nullptr;
    std::int64_t size_ = 0;
    storage bytes_;
  };

  /// Owns the memory of one activation. Behaves as its `planes`.
  class buffer {
   public:
    buffer() = default;
    buffer(block memory, planes<real> const& view) : memory_{std::move(memory)}, view_{view} {}
    buffer(buffer&& other) noexcept : memory_{std::move(other.memory_)}, view_{std::exchange(other.view_, {})} {}
    buffer& operator=(buffer&& other) noexcept {
      memory_ = std::move(other.memory_);
      view_ = std::exchange(other.view_, {});
      return *this;
    }
    ~buffer() = default;

    void reset() {
      memory_.reset();
      view_ = {};
    }
    [[nodiscard]] planes<real> const& view() const { return view_; }
    operator planes<real>() const { return view_; }
    operator planes<real const>() const { return view_; }

   private:
    block memory_;
    planes<real> view_;
  };

  explicit plane_memory(Executor machine) : machine_{std::move(machine)} {}
  plane_memory(plane_memory const&) = delete;
  plane_memory& operator=(plane_memory const&) = delete;

  /// @return  n elements of type T, undefined
  template <class T>
  [[nodiscard]] block take_elements(std::int64_t n) {
    auto const needed = round_up(std::max<std::int64_t>(n, 1) * static_cast<std::int64_t>(sizeof(T)), 256);
    block taken;
    taken.owner_ = this;
    // Best fit, but never more than a quarter too large: small activations must not hold the large ones' memory.
    if (auto found = free_.lower_bound(needed); found != free_.end() && found->first <= needed + needed / 4) {
      taken.size_ = found->first;
      taken.bytes_ = std::move(found->second);
      free_.erase(found);
    } else {
      taken.size_ = needed;
      taken.bytes_ = machine_.template allocate<std::byte>(needed);
      allocated_ += needed;
    }
    return taken;
  }

  /// Undefined pixels.
  [[nodiscard]] buffer take(std::int64_t channels, grid const& where) {
    auto memory = take_elements<real>(channels * where.batch * where.pixels());
    planes<real> const view{memory.template as<real>(), channels, where};
    return {std::move(memory), view};
  }

  /// Bytes ever allocated: the peak of the activations' memory.
  [[nodiscard]] std::int64_t allocated() const { return allocated_; }

 private:
  Executor machine_;
  std::multimap<std::int64_t, storage> free_;
  std::int64_t allocated_ = 0;
};

/// What a pass through a layer on a device needs besides its input.
template <executor Executor>
struct device_context {
  Executor const& machine;
  plane_memory<Executor>& memory;
  bool training = false;  ///< keeps what the backward pass needs
};

/// Memory for one matrix, kept between two passes.
template <executor Executor>
class device_matrix {
  using real = typename Executor::real;

 public:
  /// A matrix of undefined values.
  matrix_view<real> take(device_context<Executor> const& run, std::int64_t rows, std::int64_t columns) {
    if (rows * columns > room_) {
      memory_ = run.memory.template take_elements<real>(rows * columns);
      room_ = rows * columns;
    }
    view_ = {memory_.template as<real>(), rows, columns};
    return view_;
  }
  [[nodiscard]] matrix_view<real> view() const { return view_; }

 private:
  typename plane_memory<Executor>::block memory_;
  std::int64_t room_ = 0;
  matrix_view<real> view_;
};

/// One learnable tensor on a device. The model that it belongs to gives it its memory.
template <class Real>
struct device_parameter : described_parameter {
  using described_parameter::described_parameter;

  [[nodiscard]] Real* data() const { return values; }

  Real* values = nullptr;
};

}  // namespace unet
