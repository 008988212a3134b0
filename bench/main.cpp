// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <map>

#include "harness/suite.hpp"

namespace {

bench::machine const& limits_for(int threads) {
  static std::map<int, bench::machine> known;
  auto const [found, is_new] = known.try_emplace(threads);
  if (is_new) {
    found->second = bench::machine::measure(threads);
    std::printf("Limits of the machine with %d thread%s: %.0f GFLOP/s float32, %.1f GB/s read from memory\n", threads,
                threads == 1 ? "" : "s", found->second.flops_per_second * 1e-9, found->second.bytes_per_second * 1e-9);
  }
  return found->second;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run({.description = "Measures sara against its peers; every result is compared before it is timed",
                     .limits = [](bench::benchmark const&, int threads) { return limits_for(threads); }},
                    argc, argv);
}
