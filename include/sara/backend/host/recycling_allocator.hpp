// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <new>

#include <sara/backend/host/buffer.hpp>

namespace sara::detail {

/// Blocks of memory that the calling thread has freed, for its next ones of the same size: new ones come from the
/// system cleared, a page at a time, which takes as long as inverting a matrix of 320 rows. Aligned to vectors. Extra
/// memory: at most 16 blocks and 32 MiB a thread, the last ones freed, until the thread ends.
class freed_blocks {
 public:
  [[nodiscard]] static freed_blocks& of_this_thread() {
    thread_local freed_blocks blocks;
    return blocks;
  }

  freed_blocks(freed_blocks const&) = delete;
  freed_blocks& operator=(freed_blocks const&) = delete;
  ~freed_blocks() {
    while (count_ > 0) release_oldest();
  }

  /// @throws std::bad_alloc
  [[nodiscard]] void* take(std::size_t bytes) {
    auto const end = blocks_.begin() + count_;
    auto const found = std::find_if(blocks_.begin(), end, [&](block const& b) { return b.bytes == bytes; });
    if (found == end) {
      auto* const memory = ::operator new(bytes, alignment_);
      prefer_huge_pages(memory, bytes);
      return memory;
    }
    auto* const memory = found->memory;
    remove(found);
    return memory;
  }

  void give(void* memory, std::size_t bytes) noexcept {
    if (bytes > most_bytes_) return ::operator delete(memory, alignment_);
    while (count_ == most_blocks_ || bytes_ + bytes > most_bytes_) release_oldest();
    blocks_[static_cast<std::size_t>(count_++)] = {memory, bytes};
    bytes_ += bytes;
  }

 private:
  struct block {
    void* memory;
    std::size_t bytes;
  };
  static constexpr std::ptrdiff_t most_blocks_ = 16;
  static constexpr std::size_t most_bytes_ = std::size_t{32} << 20;
  static constexpr std::align_val_t alignment_{64};
  using blocks = std::array<block, most_blocks_>;

  freed_blocks() = default;

  void remove(blocks::iterator at) noexcept {
    bytes_ -= at->bytes;
    std::move(at + 1, blocks_.begin() + count_, at);
    --count_;
  }
  void release_oldest() noexcept {
    ::operator delete(blocks_.front().memory, alignment_);
    remove(blocks_.begin());
  }

  blocks blocks_;  // the first count_, in the order in which they were freed
  std::ptrdiff_t count_ = 0;
  std::size_t bytes_ = 0;  // of these together
};

/// An allocator of such blocks, for containers.
template <class T>
struct recycling_allocator {
  using value_type = T;

  recycling_allocator() = default;
  template <class U>
  recycling_allocator(recycling_allocator<U> const&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    return static_cast<T*>(freed_blocks::of_this_thread().take(n * sizeof(T)));
  }
  void deallocate(T* memory, std::size_t n) noexcept { freed_blocks::of_this_thread().give(memory, n * sizeof(T)); }
  [[nodiscard]] friend bool operator==(recycling_allocator const&, recycling_allocator const&) noexcept { return true; }
};

}  // namespace sara::detail
