// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <sara/update/concept.hpp>

namespace sara::test {

/// One step of an update rule on a compact column.
template <Real R, UpdateRule Rule>
void move(Rule const& rule, update_step const& step, std::vector<R>& values, std::vector<R> const& gradient,
          std::vector<R>& moments) {
  auto const kernel = rule.template kernel<R>(step);
  for (std::size_t i = 0; i < values.size(); ++i)
    kernel(values[i], gradient[i],
           moments_of_entry<R>{moments.data(), std::ssize(values), static_cast<std::int64_t>(i)});
}

/// The column of moments that the rule needs, at zero.
template <Real R, UpdateRule Rule>
[[nodiscard]] std::vector<R> new_moments(Rule const& rule, std::vector<R> const& values) {
  return std::vector<R>(values.size() * static_cast<std::size_t>(rule.moments()));
}

}  // namespace sara::test
