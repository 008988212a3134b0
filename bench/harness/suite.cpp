// SPDX-License-Identifier: Apache-2.0
#include "suite.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <regex>
#include <string>
#include <vector>

#include "measure.hpp"
#include "report.hpp"

namespace bench {

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
std::string title(benchmark const& b) {
  char density[32];
  std::snprintf(density, sizeof density, "%.3g%%", 100 * b.density);
  return b.name + ' ' + b.shape + ' ' + density + ' ' + b.dtype;
}

bool wanted(benchmark const& b, settings const& how) {
  return (!how.quick || b.starred) && std::regex_search(title(b), std::regex{how.filter});
}

/// @return  whether all peers agreed with sara
bool measure_all(suite const& what, settings const& how) {
  if (what.introduce && !how.list) what.introduce();
  std::vector<result> rows;
  table shown{std::cout};
  bool agreed = true;
  auto const write = [&] {  // after every benchmark: a run that is cut off leaves what it has
    if (how.list || how.check) return;
    if (!how.json.empty()) write_json(how.json, rows);
    if (!how.markdown.empty()) write_markdown(how.markdown, rows);
  };
  write();  // nothing stays of another run
  auto const begin = std::chrono::steady_clock::now();
  for (auto const& b : all_benchmarks()) {
    if (!wanted(b, how)) continue;
    if (how.list) {
      std::puts(title(b).c_str());
      continue;
    }
    for (int const threads : how.threads.empty() ? b.threads : how.threads) try {
        measuring const effort{
            .least_rounds = 7, .seconds = how.quick ? what.quick_seconds : what.seconds, .only_check = how.check};
        auto const limits = how.check ? machine{1, 1} : what.limits(b, threads);
        for (auto const& row : measure(b, threads, limits, effort)) {
          if (how.check)
            std::printf("agrees with %s: %s\n", row.peer.c_str(), title(b).c_str());
          else
            shown.add(row);
          rows.push_back(row);
        }
        write();
      } catch (std::exception const& error) {
        agreed = false;
        std::fprintf(stderr, "bench: %s: %s\n", title(b).c_str(), error.what());
      }
  }
  if (how.list || how.check) return agreed;
  auto const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%zu rows in %.0f s\n", rows.size(), seconds);
  return agreed;
}

}  // namespace

int run(suite const& what, int argc, char** argv) try {
  CLI::App app{what.description};
  settings how;
  app.add_flag("--quick", how.quick, "Only the rows marked *, briefly");
  app.add_flag("--check", how.check, "Compare the results, measure nothing");
  app.add_flag("--list", how.list, "Name the benchmarks");
  app.add_option("--filter", how.filter, "Only benchmarks whose name, shape and density match this expression");
  if (what.has_threads)
    app.add_option("--threads", how.threads, "Numbers of threads, instead of each benchmark's own")
        ->delimiter(',')
        ->check(CLI::PositiveNumber);
  app.add_option("--json", how.json, "Write all rows to this file")->take_last();
  app.add_option("--markdown", how.markdown, "Write the table to this file")->take_last();
  CLI11_PARSE(app, argc, argv);
  return measure_all(what, how) ? 0 : 1;
} catch (std::exception const& error) {
  std::fprintf(stderr, "bench: %s\n", error.what());
  return 1;
}

}  // namespace bench
