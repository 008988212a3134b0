// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <sara/backend/first_at_least.hpp>
#include <sara/host_device.hpp>

namespace sara::cuda::detail {

/// Slots that one block of threads visits; fixed, so that sums are the same bits every time.
inline constexpr std::int64_t slots_per_block = 2048;

/// Kernels take 32,764 bytes of arguments from CUDA 12.1 on; half of that is some fifty tensors of an update, and
/// handed over in about the time of any launch.
template <class Job>
inline constexpr int most_jobs = std::max<int>(1, 16'000 / static_cast<int>(sizeof(Job) + sizeof(std::int64_t)));

/// Some jobs as an argument of one kernel, and which of its blocks work on which. An argument is copied when the kernel
/// is handed over, so nothing need be uploaded, and a captured graph holds its jobs itself.
template <class Job>
struct job_table {
  alignas(Job) std::byte bytes[sizeof(Job) * most_jobs<Job>];  // a job need not be default-constructible
  std::int64_t first_block[most_jobs<Job> + 1];
  int count;

  [[nodiscard]] SARA_HOST_DEVICE Job const& job(int i) const { return reinterpret_cast<Job const*>(bytes)[i]; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t blocks() const { return first_block[count]; }
  [[nodiscard]] SARA_HOST_DEVICE int job_of_block(std::int64_t block) const {
    return static_cast<int>(
        sara::detail::first_at_least(count, block + 1, [this](std::int64_t i) { return first_block[i + 1]; }));
  }
};

/// Calls run(table) for as few tables as hold all jobs; jobs without slots are left out.
template <class Job, class Run>
void in_tables(std::span<Job const> jobs, Run&& run) {
  for (auto next = jobs.begin(); next != jobs.end();) {
    job_table<Job> table{};
    for (; next != jobs.end() && table.count < most_jobs<Job>; ++next) {
      auto const slots = next->positions.count();
      if (slots == 0) continue;
      std::memcpy(table.bytes + sizeof(Job) * static_cast<std::size_t>(table.count), &*next, sizeof(Job));
      table.first_block[table.count + 1] = table.blocks() + (slots + slots_per_block - 1) / slots_per_block;
      ++table.count;
    }
    if (table.count > 0) run(table);
  }
}

}  // namespace sara::cuda::detail
