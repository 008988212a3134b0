// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/select.hpp>

namespace sara::test {

/// The positions that a selector takes of each of these weights.
template <class Selector>
[[nodiscard]] std::vector<std::vector<std::int64_t>> selected(std::vector<const_named_tensor> const& weights,
                                                              Selector const& selector, host const& backend = host{1}) {
  std::vector<std::vector<std::int64_t>> out;
  for (auto const& s : select(backend, std::span{weights}, selector))
    out.emplace_back(s.positions.begin(), s.positions.end());
  return out;
}

}  // namespace sara::test
