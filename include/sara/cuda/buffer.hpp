// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <sara/cuda/context.hpp>

namespace sara::cuda {

/// n elements of device memory, movable. It may be destroyed while work on the stream uses it. It keeps the stream.
template <class T>
class buffer {
  static_assert(std::is_trivially_copyable_v<T>, "sara::cuda::buffer expects a trivially copyable element");

 public:
  buffer() = default;
  /// Not initialised. @throws error
  buffer(std::shared_ptr<detail::stream_context const> context, std::int64_t n)
      : context_{std::move(context)}, size_{static_cast<std::size_t>(n)} {
    if (size_ > 0) data_ = static_cast<T*>(context_->allocate(size_ * sizeof(T)));
  }
  buffer(buffer&& other) noexcept
      : context_{std::move(other.context_)},
        data_{std::exchange(other.data_, nullptr)},
        size_{std::exchange(other.size_, 0)} {}
  buffer& operator=(buffer&& other) noexcept {
    buffer{std::move(other)}.swap(*this);
    return *this;
  }
  buffer(buffer const&) = delete;
  buffer& operator=(buffer const&) = delete;
  ~buffer() {
    if (data_) context_->deallocate(data_, size_ * sizeof(T));
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] T const* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void swap(buffer& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  std::shared_ptr<detail::stream_context const> context_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sara::cuda
