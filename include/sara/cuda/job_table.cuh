// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <sara/host_device.hpp>

namespace sara::cuda::detail {

/// Slots that one block of threads visits; fixed, so that sums are the same bits every time.
inline constexpr std::int64_t slots_per_block = 2048;

/// Some jobs as an argument of one kernel, and which of its blocks work on which. An argument is copied when the kernel
/// is handed over, so nothing need be uploaded, and a captured graph holds its jobs itself.
template <class Job, int Capacity>
struct job_table {
  alignas(Job) std::byte bytes[sizeof(Job) * Capacity];  // a job need not be default-constructible
  std::int64_t first_block[Capacity + 1];
  int count;

  [[nodiscard]] SARA_HOST_DEVICE Job const& job(int i) const { return reinterpret_cast<Job const*>(bytes)[i]; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t blocks() const { return first_block[count]; }
  [[nodiscard]] SARA_HOST_DEVICE int job_of_block(std::int64_t block) const {
    int first = 0;
    for (int n = count; n > 1;) {
      int const half = n / 2;
      if (first_block[first + half] <= block) {
        first += half;
        n -= half;
      } else {
        n = half;
      }
    }
    return first;
  }
};

/// CUDA 12.1 and later pass up to 32,764 bytes of arguments to a kernel.
template <class Job>
inline constexpr int most_jobs = std::max<int>(1, 30'000 / static_cast<int>(sizeof(Job) + sizeof(std::int64_t)));

/// Calls run(table) for as few tables as hold all jobs; jobs without slots are left out.
template <class Job, class Run>
void in_tables(std::span<Job const> jobs, Run&& run) {
  auto const fill = [&]<int Capacity>(std::integral_constant<int, Capacity>) {
    auto next = jobs.begin();
    while (next != jobs.end()) {
      job_table<Job, Capacity> table{};
      for (; next != jobs.end() && table.count < Capacity; ++next) {
        if (next->positions.count() == 0) continue;
        std::memcpy(table.bytes + sizeof(Job) * static_cast<std::size_t>(table.count), &*next, sizeof(Job));
        table.first_block[table.count + 1] =
            table.blocks() + (next->positions.count() + slots_per_block - 1) / slots_per_block;
        ++table.count;
      }
      if (table.count > 0) run(table);
    }
  };
  if (jobs.size() == 1)
    fill(std::integral_constant<int, 1>{});
  else
    fill(std::integral_constant<int, most_jobs<Job>>{});
}

}  // namespace sara::cuda::detail
