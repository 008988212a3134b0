// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/host.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "case.hpp"

namespace bench {

namespace detail {

/// f(first, last) over [0, n) in pieces of 256 KiB of float, by all threads.
template <class F>
void in_pieces(sara::host const& backend, std::int64_t n, F&& f) {
  constexpr std::int64_t piece = 1 << 16;
  backend.threads().parallel_for((n + piece - 1) / piece,
                                 [&](std::int64_t i) { f(i * piece, std::min(n, (i + 1) * piece), i); });
}

/// As much as a register holds.
using words [[gnu::vector_size(__BIGGEST_ALIGNMENT__)]] = std::uint64_t;

/// Four streams at once: more reads are under way than in one. What is left over at the end is not read.
[[nodiscard]] inline std::uint64_t read_in_four_streams(std::span<std::byte const> bytes) {
  auto const quarter = bytes.size() / (4 * sizeof(words));
  words sum[4] = {};
  for (std::size_t i = 0; i < quarter; ++i)
    for (std::size_t k = 0; k < 4; ++k) {
      words next;
      std::memcpy(&next, bytes.data() + (k * quarter + i) * sizeof next, sizeof next);
      sum[k] ^= next;
    }
  words const all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
  std::uint64_t result = 0;
  for (std::size_t i = 0; i < sizeof all / sizeof result; ++i) result ^= all[i];
  return result;
}

}  // namespace detail

/// Reads all bytes once, by all threads.
/// @param sums  one a thread; written so that no compiler leaves the reads out
inline void read_all(sara::thread_pool& pool, std::span<std::byte const> bytes, std::vector<std::uint64_t>& sums) {
  auto const parts = pool.size();
  pool.parallel_for(parts, [&](std::int64_t i) {
    auto const first = std::ssize(bytes) * i / parts, last = std::ssize(bytes) * (i + 1) / parts;
    sums[static_cast<std::size_t>(i)] = detail::read_in_four_streams(
        bytes.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)));
  });
}

/// What memory allows: every byte of `from` read once, and next to nothing done with it.
/// The data must outlive the contender.
template <class T>
[[nodiscard]] contender one_read(sara::host const& backend, std::span<T const> from) {
  auto const sums = std::make_shared<std::vector<std::uint64_t>>(static_cast<std::size_t>(backend.threads().size()));
  return {"one read", timed([=] { read_all(backend.threads(), std::as_bytes(from), *sums); })};
}

/// What memory allows for an optimizer: columns read and written once in one pass, and next to nothing computed.
/// Four are read, three of them written: 28 bytes an entry.
[[nodiscard]] inline contender four_streams(sara::host const& backend, std::int64_t count) {
  auto const columns = std::make_shared<std::array<std::vector<float>, 4>>();
  for (auto& column : *columns) column.assign(static_cast<std::size_t>(count), 1.0F);
  return {"streaming 28 B an entry", timed([=] {
            float* const p = (*columns)[0].data();
            float* const m = (*columns)[1].data();
            float* const v = (*columns)[2].data();
            float const* const g = (*columns)[3].data();
            detail::in_pieces(backend, count, [&](std::int64_t first, std::int64_t last, std::int64_t) {
#pragma GCC ivdep
              for (auto k = first; k < last; ++k) {
                m[k] = m[k] + g[k];
                v[k] = v[k] - g[k];
                p[k] = p[k] - m[k];
              }
            });
          })};
}

}  // namespace bench
