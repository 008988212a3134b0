// SPDX-License-Identifier: Apache-2.0
#include "memory_meter.hpp"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::int64_t> alive{0};
std::atomic<std::int64_t> highest{0};

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc{};
  auto const now = alive += static_cast<std::int64_t>(malloc_usable_size(memory));
  auto seen = highest.load();
  while (seen < now && !highest.compare_exchange_weak(seen, now)) {
  }
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) alive -= static_cast<std::int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

std::size_t whole(std::size_t size, std::size_t alignment) { return (size + alignment - 1) / alignment * alignment; }

}  // namespace

void* operator new(std::size_t size) { return counted(std::malloc(std::max<std::size_t>(size, 1))); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  auto const to = static_cast<std::size_t>(alignment);
  return counted(std::aligned_alloc(to, whole(std::max<std::size_t>(size, 1), to)));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace bench {

memory_meter::memory_meter() : before_{alive} { highest = before_; }

std::int64_t memory_meter::peak() const { return highest - before_; }

}  // namespace bench
