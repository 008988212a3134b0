// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <ranges>
#include <type_traits>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sara {

namespace detail {

/// Asks for huge pages where whole ones lie within [memory, memory + bytes): the first touch of small pages costs up to
/// ten times as much as writing them, and scattered accesses miss the translation cache. A hint; it fails in silence.
inline void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr std::uintptr_t page = std::uintptr_t{1} << 21;
  auto const begin = reinterpret_cast<std::uintptr_t>(memory);
  auto const first = (begin + page - 1) / page * page;
  auto const last = (begin + bytes) / page * page;
  if (first < last)
    static_cast<void>(madvise(static_cast<char*>(memory) + (first - begin), last - first, MADV_HUGEPAGE));
#endif
}

}  // namespace detail

/// n elements in the host's memory, large ones on huge pages where the system has them. Movable.
template <class T>
class host_buffer {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

 public:
  host_buffer() = default;
  /// Zeroed.
  /// @throws std::bad_alloc
  explicit host_buffer(std::int64_t n) : host_buffer{for_overwrite(n)} {
    if (n > 0) std::memset(static_cast<void*>(data()), 0, size_ * sizeof(T));
  }

  /// The same with contents undefined.
  [[nodiscard]] static host_buffer for_overwrite(std::int64_t n) {
    if (n < 0 || static_cast<std::uint64_t>(n) > std::numeric_limits<std::size_t>::max() / sizeof(T))
      throw std::bad_alloc{};
    host_buffer out;
    if (n == 0) return out;
    out.size_ = static_cast<std::size_t>(n);
    auto const bytes = out.size_ * sizeof(T);
    out.memory_.reset(static_cast<T*>(::operator new(bytes)));
    detail::prefer_huge_pages(out.data(), bytes);
    return out;
  }

  host_buffer(host_buffer&& other) noexcept : memory_{std::move(other.memory_)}, size_{std::exchange(other.size_, 0)} {}
  host_buffer& operator=(host_buffer&& other) noexcept {
    memory_ = std::move(other.memory_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  [[nodiscard]] T* data() noexcept { return memory_.get(); }
  [[nodiscard]] T const* data() const noexcept { return memory_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] T* begin() noexcept { return data(); }
  [[nodiscard]] T* end() noexcept { return data() + size_; }
  [[nodiscard]] T const* begin() const noexcept { return data(); }
  [[nodiscard]] T const* end() const noexcept { return data() + size_; }
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return memory_.get()[i]; }
  [[nodiscard]] T const& operator[](std::size_t i) const noexcept { return memory_.get()[i]; }

  template <std::ranges::contiguous_range Range>
  [[nodiscard]] friend bool operator==(host_buffer const& a, Range const& b) {
    return std::ranges::equal(a, b);
  }

 private:
  struct release {
    void operator()(T* p) const noexcept { ::operator delete(p); }
  };

  std::unique_ptr<T[], release> memory_;
  std::size_t size_ = 0;
};

}  // namespace sara
