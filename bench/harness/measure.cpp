// SPDX-License-Identifier: Apache-2.0
#include "measure.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "memory_meter.hpp"

namespace bench {

namespace {

constexpr double shortest_turn = 1e-3;
constexpr int most_rounds = 101;
/// Idle threads of OpenMP and OpenBLAS look for work for some 20 ms before they sleep; by then they must not disturb
/// the next contender.
constexpr std::chrono::milliseconds until_threads_sleep{30};

constexpr double until_threads_run = 30e-3;

double median(std::vector<double> values) {
  auto const middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// A contender and its times.
struct lane {
  contender* who;
  int repeats = 1;
  std::vector<double> seconds = {};

  void turn(int threads) {
    if (threads > 1) {
      std::this_thread::sleep_for(until_threads_sleep);
      // its own threads wake, and the system spreads them over cores
      for (double spent = 0; spent < until_threads_run;) spent += std::max(who->run(), 1e-6);
    }
    double sum = 0;
    for (int i = 0; i < repeats; ++i) sum += who->run();
    seconds.push_back(sum / repeats);
  }
};

/// First runs of all, and whether they agree.
std::int64_t compare(trial& t) {
  memory_meter const meter;
  // in a thread of its own, so that workspaces which threads keep are allocated, and counted, once more
  std::async(std::launch::async, t.sara.run).get();
  auto const allocated = meter.peak();
  for (auto& peer : t.peers) {
    peer.run();
    if (!peer.difference) continue;
    auto const difference = peer.difference();
    auto const tolerance = peer.tolerance > 0 ? peer.tolerance : t.tolerance;
    if (difference <= tolerance) continue;  // also false for NaN
    std::ostringstream text;
    text << "expected the result of " << peer.name << " to be sara's within " << tolerance << ", got a difference of "
         << difference;
    throw std::runtime_error{text.str()};
  }
  return allocated;
}

}  // namespace

std::vector<result> measure(benchmark const& what, int threads, machine const& limits, measuring const& how) {
  auto t = what.prepare(threads);
  auto const allocated = compare(t);
  result row{what.name, what.shape, what.density, what.dtype, threads, what.starred};
  row.flops = t.flops;
  row.bytes = t.bytes;
  row.sara_bytes = t.sara.bytes + allocated;

  std::vector<lane> lanes{{&t.sara}};
  for (auto& peer : t.peers) lanes.push_back({&peer});
  if (t.limit.run) lanes.push_back({&t.limit});
  if (how.only_check) {
    for (auto& l : lanes) l.seconds = {0};
  } else {
    double budget = 0;
    for (auto& l : lanes) {
      auto const once = l.who->run();
      l.repeats = static_cast<int>(std::clamp(std::ceil(shortest_turn / std::max(once, 1e-9)), 1.0, 1e4));
      budget += how.seconds;
    }
    auto const begin = std::chrono::steady_clock::now();
    auto const spent = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
    for (int round = 0; round < how.least_rounds || (round < most_rounds && spent() < budget); ++round)
      for (std::size_t i = 0; i < lanes.size(); ++i)
        lanes[(static_cast<std::size_t>(round) + i) % lanes.size()].turn(threads);
  }

  auto const is_measured = [&](contender const& c) { return c.measured_bytes && !how.only_check; };
  if (is_measured(t.sara)) row.sara_bytes = t.sara.measured_bytes();
  row.sara_ms = 1e3 * median(lanes[0].seconds);
  row.limit_ms = 1e3 * (t.limit.run ? median(lanes.back().seconds) : limits.least_seconds(t.flops, t.bytes));
  row.sara_idle_bytes = t.sara.idle_bytes;
  row.goal_bytes = t.goal_bytes;
  row.device = limits.name;
  std::vector<result> rows;
  for (std::size_t i = 0; i < t.peers.size(); ++i) {
    row.peer = t.peers[i].name;
    row.peer_ms = 1e3 * median(lanes[i + 1].seconds);
    row.peer_bytes = is_measured(t.peers[i]) ? t.peers[i].measured_bytes() : t.peers[i].bytes;
    row.peer_idle_bytes = t.peers[i].idle_bytes;
    row.goal = t.peers[i].goal;
    rows.push_back(row);
  }
  if (t.limit.run) {
    row.peer = t.limit.name;
    row.peer_ms = row.limit_ms;
    row.peer_bytes = row.peer_idle_bytes = 0;
    row.goal = t.limit.goal;
    rows.push_back(row);
  }
  return rows;
}

}  // namespace bench
