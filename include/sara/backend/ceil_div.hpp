// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace sara::detail {

/// ⌈n / by⌉, for n ≥ 0; towards zero for n < 0.
[[nodiscard]] constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

/// The smallest multiple of `to` that is at least n.
[[nodiscard]] constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return ceil_div(n, to) * to; }

}  // namespace sara::detail
