// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace bench {

/// A sparse matrix's pattern as libraries take it: where each row begins, and columns.
struct csr_pattern {
  std::vector<std::int32_t> offsets;  ///< [rows + 1]
  std::vector<std::int32_t> columns;  ///< [count], ascending within a row

  /// @param positions  row-major, ascending
  csr_pattern(std::vector<std::int64_t> const& positions, std::int64_t rows, std::int64_t cols)
      : offsets(static_cast<std::size_t>(rows) + 1) {
    columns.reserve(positions.size());
    for (auto const p : positions) {
      ++offsets[static_cast<std::size_t>(p / cols) + 1];
      columns.push_back(static_cast<std::int32_t>(p % cols));
    }
    for (std::size_t row = 1; row < offsets.size(); ++row) offsets[row] += offsets[row - 1];
  }
};

}  // namespace bench
