// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/host.hpp>

#include <algorithm>
#include <array>
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

}  // namespace detail

/// What memory allows: every byte of `from` read once, and next to nothing done with it.
/// The data must outlive the contender.
template <class T>
[[nodiscard]] contender one_read(sara::host const& backend, std::span<T const> from) {
  auto const sums = std::make_shared<std::vector<std::uint32_t>>(from.size() / (1 << 16) + 1);
  return {"one read", timed([=] {
            detail::in_pieces(backend, std::ssize(from), [&](std::int64_t first, std::int64_t last, std::int64_t i) {
              std::uint32_t sum = 0;
              for (auto k = first; k < last; ++k) {
                std::uint32_t bits;
                std::memcpy(&bits, &from[static_cast<std::size_t>(k)], sizeof bits);
                sum ^= bits;
              }
              (*sums)[static_cast<std::size_t>(i)] = sum;
            });
          })};
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
