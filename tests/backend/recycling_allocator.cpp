// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include <sara/backend/host/recycling_allocator.hpp>

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

/// f in a thread of its own, which has freed nothing yet.
template <class F>
void in_new_thread(F f) {
  std::thread{[&] { f(sara::detail::freed_blocks::of_this_thread()); }}.join();
}

}  // namespace

TEST_CASE("a freed block is the next one of its size, and of no other") {
  in_new_thread([](auto& blocks) {
    void* const first = blocks.take(4096);
    void* const second = blocks.take(8192);
    CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
    blocks.give(first, 4096);
    blocks.give(second, 8192);
    CHECK(blocks.take(8192) == second);
    CHECK(blocks.take(4096) == first);
    void* const other = blocks.take(4096);
    CHECK(other != first);
    for (auto* const memory : {first, other}) blocks.give(memory, 4096);
    blocks.give(second, 8192);
  });
}

TEST_CASE("the blocks freed last are kept, 32 MiB and 16 of them at most") {
  in_new_thread([](auto& blocks) {
    void* const large[] = {blocks.take(20 * mib), blocks.take(12 * mib), blocks.take(33 * mib)};
    blocks.give(large[0], 20 * mib);
    blocks.give(large[1], 12 * mib);
    blocks.give(large[2], 33 * mib);  // more than a thread keeps: the others stay
    CHECK(blocks.take(20 * mib) == large[0]);
    CHECK(blocks.take(12 * mib) == large[1]);
    blocks.give(large[0], 20 * mib);
    blocks.give(large[1], 12 * mib);

    std::vector<void*> small;
    for (std::size_t i = 1; i <= 17; ++i) small.push_back(blocks.take(64 * i));
    for (std::size_t i = 1; i <= 17; ++i) blocks.give(small[i - 1], 64 * i);
    for (std::size_t i = 2; i <= 17; ++i) CHECK(blocks.take(64 * i) == small[i - 1]);
    for (std::size_t i = 2; i <= 17; ++i) blocks.give(small[i - 1], 64 * i);
  });
}

TEST_CASE("a vector over used memory is zeroed as any other") {
  in_new_thread([](auto&) {
    using vector = std::vector<float, sara::detail::recycling_allocator<float>>;
    float const* used = nullptr;
    {
      vector const ones(1000, 1.0F);
      used = ones.data();
    }
    vector const zeros(1000);
    CHECK(zeros.data() == used);
    CHECK(zeros == vector(1000, 0.0F));
  });
}
