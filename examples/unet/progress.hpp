// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

namespace unet {

/// How far a loop has come, how fast it is, and how long it will take: one line that is rewritten on a terminal, a line
/// every ten seconds elsewhere.
class progress_line {
  using clock = std::chrono::steady_clock;

 public:
  /// @param what   the plural of what is counted: "steps"
  /// @param total  of them in all
  /// @param done   before this run
  progress_line(std::string what, std::int64_t total, std::int64_t done = 0)
      : what_{std::move(what)}, total_{total}, begin_{done}, terminal_{isatty(STDOUT_FILENO) != 0} {}
  progress_line(progress_line const&) = delete;
  progress_line& operator=(progress_line const&) = delete;
  ~progress_line() {
    if (terminal_ && shown_) std::puts("");
  }

  /// @param facts  shown beside the count
  void show(std::int64_t done, std::string const& facts = {}) {
    auto const now = clock::now();
    auto const pause = terminal_ ? std::chrono::milliseconds{100} : std::chrono::milliseconds{10'000};
    if (done < total_ && now - shown_.value_or(start_) < pause) return;
    shown_ = now;
    auto const speed = static_cast<double>(done - begin_) / std::chrono::duration<double>(now - start_).count();
    auto const left = std::lround(static_cast<double>(total_ - done) / speed);
    std::printf("%s  %lld of %lld %s%s%s, %.2f a second, %ld:%02ld left%s", terminal_ ? "\r" : "",
                static_cast<long long>(done), static_cast<long long>(total_), what_.c_str(), facts.empty() ? "" : ", ",
                facts.c_str(), speed, left / 60, left % 60, terminal_ ? "\x1b[K" : "\n");
    std::fflush(stdout);
  }

 private:
  std::string what_;
  std::int64_t total_;
  std::int64_t begin_;
  bool terminal_;
  clock::time_point start_ = clock::now();
  std::optional<clock::time_point> shown_;
};

/// While it lives, the first Ctrl-C is a request; the second one ends the program as usual. One at a time.
class interruption {
 public:
  interruption() { requested_ = 0; }
  interruption(interruption const&) = delete;
  interruption& operator=(interruption const&) = delete;
  ~interruption() { std::signal(SIGINT, previous_); }

  [[nodiscard]] bool requested() const { return requested_ != 0; }

 private:
  static void note(int) {
    requested_ = 1;
    std::signal(SIGINT, SIG_DFL);
  }

  static inline volatile std::sig_atomic_t requested_ = 0;
  void (*previous_)(int) = std::signal(SIGINT, note);
};

}  // namespace unet
