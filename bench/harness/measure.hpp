// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "case.hpp"
#include "machine.hpp"

namespace bench {

/// A benchmark against one peer: a row of the table, and of results.json.
struct result {
  std::string name;
  std::string shape;
  double density = 1;
  std::string dtype;
  int threads = 1;
  bool starred = false;
  std::string peer = {};
  double sara_ms = 0;  ///< medians
  double peer_ms = 0;
  double limit_ms = 0;  ///< what the machine needs for the useful flops and bytes at least
  double flops = 0;
  double bytes = 0;
  std::int64_t sara_bytes = 0;
  std::int64_t peer_bytes = 0;
  std::int64_t sara_idle_bytes = 0;
  std::int64_t peer_idle_bytes = 0;
  double goal = 0;              ///< least ratio that is wanted; 0 where there is no goal
  std::int64_t goal_bytes = 0;  ///< most bytes that sara should need; 0 where there is no goal
  std::string device = {};      ///< name of an accelerator

  [[nodiscard]] double ratio() const { return peer_ms / sara_ms; }
};

struct measuring {
  int least_rounds = 7;
  double seconds = 0.7;     ///< for each contender; more where the least rounds take more
  bool only_check = false;  ///< compares results, measures nothing
};

/// Compares the results of all contenders, then times them in turn: one run each, round after round, beginning with
/// another one each round. Runs shorter than a millisecond are repeated within their turn.
/// @throws std::runtime_error  if a peer's result is not sara's
[[nodiscard]] std::vector<result> measure(benchmark const& what, int threads, machine const& limits,
                                          measuring const& how);

}  // namespace bench
