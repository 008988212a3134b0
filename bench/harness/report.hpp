// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <ostream>
#include <span>
#include <string>

#include "measure.hpp"

namespace bench {

/// The table, row by row as they come.
class table {
 public:
  explicit table(std::ostream& to) : to_{to} {}
  void add(result const& row);

 private:
  std::ostream& to_;
  bool begun_ = false;
};

void write_json(std::filesystem::path const& file, std::span<result const> rows);
void write_markdown(std::filesystem::path const& file, std::span<result const> rows);

}  // namespace bench
