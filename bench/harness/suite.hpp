// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "case.hpp"
#include "machine.hpp"

namespace bench {

/// A program of benchmarks, beside its cases.
struct suite {
  char const* description;
  /// What the machine can do in a benchmark's dtype, with so many threads; asked before each is measured.
  std::function<machine(benchmark const&, int threads)> limits;
  double seconds = 0.7;  ///< for each contender
  double quick_seconds = 0.12;
  bool has_threads = true;  ///< whether there is an option --threads
  /// Called before anything is measured or compared, to say what the rows cannot.
  std::function<void()> introduce = {};
};

/// Parses the options, and lists, compares or measures all benchmarks that they want.
/// @return  the program's exit status: 0 if all peers agreed with sara
[[nodiscard]] int run(suite const& what, int argc, char** argv);

}  // namespace bench
