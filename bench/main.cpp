// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include "harness/case.hpp"
#include "harness/machine.hpp"
#include "harness/measure.hpp"
#include "harness/report.hpp"

namespace {

struct settings {
  bool quick = false;
  bool check = false;
  bool list = false;
  std::string filter;
  std::vector<int> threads;
  std::filesystem::path json;
  std::filesystem::path markdown;
};

/// What --filter searches, and what errors and --list say.
std::string title(bench::benchmark const& b) {
  char density[32];
  std::snprintf(density, sizeof density, "%.3g%%", 100 * b.density);
  return b.name + ' ' + b.shape + ' ' + density + ' ' + b.dtype;
}

bool wanted(bench::benchmark const& b, settings const& how) {
  return (!how.quick || b.starred) && std::regex_search(title(b), std::regex{how.filter});
}

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

/// @return  whether all peers agreed with sara
bool run(settings const& how) {
  std::vector<bench::result> rows;
  bench::table table{std::cout};
  bool agreed = true;
  auto const begin = std::chrono::steady_clock::now();
  for (auto const& b : bench::all_benchmarks()) {
    if (!wanted(b, how)) continue;
    if (how.list) {
      std::puts(title(b).c_str());
      continue;
    }
    for (int const threads : how.threads.empty() ? b.threads : how.threads) try {
        bench::measuring const measuring{.least_rounds = 7, .seconds = how.quick ? 0.12 : 0.7, .only_check = how.check};
        auto const limits = how.check ? bench::machine{1, 1} : limits_for(threads);
        for (auto const& row : bench::measure(b, threads, limits, measuring)) {
          if (how.check)
            std::printf("agrees with %s: %s\n", row.peer.c_str(), title(b).c_str());
          else
            table.add(row);
          rows.push_back(row);
        }
      } catch (std::exception const& error) {
        agreed = false;
        std::fprintf(stderr, "bench: %s\n", error.what());
      }
  }
  if (how.list || how.check) return agreed;
  auto const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%zu rows in %.0f s\n", rows.size(), seconds);
  if (!how.json.empty()) bench::write_json(how.json, rows);
  if (!how.markdown.empty()) bench::write_markdown(how.markdown, rows);
  return agreed;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Measures sara against its peers; every result is compared before it is timed"};
  settings how;
  app.add_flag("--quick", how.quick, "Only the rows marked *, briefly: about a minute");
  app.add_flag("--check", how.check, "Compare the results, measure nothing");
  app.add_flag("--list", how.list, "Name the benchmarks");
  app.add_option("--filter", how.filter, "Only benchmarks whose name, shape and density match this expression");
  app.add_option("--threads", how.threads, "Numbers of threads, instead of each benchmark's own")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--json", how.json, "Write all rows to this file")->take_last();
  app.add_option("--markdown", how.markdown, "Write the table to this file")->take_last();
  CLI11_PARSE(app, argc, argv);
  return run(how) ? 0 : 1;
} catch (std::exception const& error) {
  std::fprintf(stderr, "bench: %s\n", error.what());
  return 1;
}
