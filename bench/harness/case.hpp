// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Does the work once and returns the seconds of the part that is compared.
using timed_work = std::function<double()>;

/// Times all of f.
template <class F>
[[nodiscard]] timed_work timed(F f) {
  return [f = std::move(f)]() mutable {
    auto const begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
}

/// Somebody who does the work of a case: sara, or a peer.
struct contender {
  std::string name;
  timed_work run;
  std::int64_t bytes = 0;  ///< held beside the inputs; of sara, what it allocates while it runs is added
  /// How far its first result is from sara's first one, relative to the largest entry; called when both have run once.
  std::function<double()> difference = {};
  /// Bytes known only at the end, for a process of its own; instead of `bytes`.
  std::function<std::int64_t()> measured_bytes = {};
  std::int64_t idle_bytes = 0;  ///< of them, what its process had before it made anything
  double tolerance = 0;         ///< of `difference`, instead of the trial's where it is not 0
  double goal = 0;              ///< least ratio of its time to sara's that is wanted; 0 where there is none
};

/// One measurement, ready to run; what it needs lives in its function objects.
struct trial {
  contender sara;
  std::vector<contender> peers;
  contender limit = {};         ///< optional: what the machine can do, moving the same bytes; it computes no result
  double flops = 0;             ///< useful ones
  double bytes = 0;             ///< that must move between memory and core
  double tolerance = 1e-5;      ///< of `difference`
  std::int64_t goal_bytes = 0;  ///< most that sara should hold and allocate; 0 where there is no goal
};

/// What a row of the table is about. `prepare` is called only when it is measured.
struct benchmark {
  std::string name;
  std::string shape;
  double density = 1;
  std::string dtype = "float32";
  bool starred = false;            ///< measured with --quick too
  std::vector<int> threads = {1};  ///< one measurement each
  std::function<trial(int threads)> prepare;
};

/// All benchmarks, in the order of their files' names and then of registration.
[[nodiscard]] std::vector<benchmark> all_benchmarks();

/// A file of benchmarks registers itself: `bench::family const linear{"linear", [] { return std::vector{…}; }};`
struct family {
  family(char const* name, std::function<std::vector<benchmark>()> list);
};

}  // namespace bench
