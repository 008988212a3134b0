// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

/// The other side of bench::worker's protocol (process.hpp), for workers in C++.
namespace bench {

/// Bytes that a line of /proc/self/status gives in kilobytes.
[[nodiscard]] inline std::int64_t status_bytes(std::string const& name) {
  std::ifstream lines{"/proc/self/status"};
  std::string word;
  for (std::int64_t kilobytes = 0; lines >> word;)
    if (word == name + ":" && lines >> kilobytes) return kilobytes * 1024;
  return 0;
}

/// Answers commands until the input ends: run() does a training step and returns its loss; all losses are saved.
/// @param idle  bytes that the process had before it made anything
template <class Run>
void serve(std::filesystem::path const& folder, std::int64_t idle, Run&& run) {
  std::vector<double> losses;
  for (std::string command; std::getline(std::cin, command);) {
    if (command == "run") {
      auto const begin = std::chrono::steady_clock::now();
      losses.push_back(run());
      std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << std::endl;
    } else if (command == "save") {
      std::ofstream{folder / "losses", std::ios::binary}.write(
          reinterpret_cast<char const*>(losses.data()), static_cast<std::streamsize>(losses.size() * sizeof(double)));
      std::cout << "saved" << std::endl;
    } else if (command == "memory") {
      std::cout << status_bytes("VmHWM") << std::endl;
    } else if (command == "idle") {
      std::cout << idle << std::endl;
    }
  }
}

}  // namespace bench
