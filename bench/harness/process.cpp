// SPDX-License-Identifier: Apache-2.0
#include "process.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <utility>

extern char** environ;

namespace bench {

scratch_folder::scratch_folder() {
  auto pattern = (std::filesystem::temp_directory_path() / "sara_bench_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error{pattern + ": cannot make a folder"};
  path_ = pattern;
}

scratch_folder::~scratch_folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void scratch_folder::write_bytes(char const* name, std::span<std::byte const> bytes) const {
  std::ofstream out{path_ / name, std::ios::binary};
  out.write(reinterpret_cast<char const*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) throw std::runtime_error{(path_ / name).string() + ": cannot be written"};
}

void scratch_folder::read_bytes(char const* name, std::span<std::byte> bytes) const {
  std::ifstream in{path_ / name, std::ios::binary};
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!in) throw std::runtime_error{(path_ / name).string() + ": cannot be read"};
}

worker::worker(std::vector<std::string> command, std::vector<std::string> const& environment)
    : command_{std::move(command)}, name_{command_.size() > 2 ? command_[1] + " " + command_[2] : command_[0]} {
  std::array<int, 2> to{}, from{};
  // closed in children, or a worker would not see the end of its input while a later one lives
  if (pipe2(to.data(), O_CLOEXEC) != 0 || pipe2(from.data(), O_CLOEXEC) != 0)
    throw std::runtime_error{name_ + ": no pipes left"};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
  std::vector<char*> arguments, variables;
  for (auto const& part : command_) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  for (auto const& one : environment) variables.push_back(const_cast<char*>(one.c_str()));
  for (auto* one = environ; *one != nullptr; ++one) variables.push_back(*one);
  variables.push_back(nullptr);
  auto const error = posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), variables.data());
  posix_spawn_file_actions_destroy(&actions);
  close(to[0]);
  close(from[1]);
  in_ = fdopen(to[1], "w");
  out_ = fdopen(from[0], "r");
  if (error != 0) throw std::runtime_error{name_ + ": cannot be started"};
}

worker::~worker() {
  std::fclose(in_);
  std::fclose(out_);
  waitpid(pid_, nullptr, 0);
}

std::string worker::ask(char const* command) {
  std::array<char, 128> line{};
  if (std::fprintf(in_, "%s\n", command) < 0 || std::fflush(in_) != 0 ||
      std::fgets(line.data(), static_cast<int>(line.size()), out_) == nullptr)
    throw std::runtime_error{name_ + ": ended without an answer to '" + command + "'"};
  return line.data();
}

double worker::run() { return std::stod(ask("run")); }
void worker::save() { ask("save"); }
std::int64_t worker::idle() { return std::stoll(ask("idle")); }
std::int64_t worker::memory() { return std::stoll(ask("memory")); }
std::int64_t worker::fresh_memory() const {
  worker fresh{command_, {"MALLOC_MMAP_THRESHOLD_=1048576"}};
  for (int i = 0; i < 3; ++i) static_cast<void>(fresh.run());
  return fresh.memory();
}

std::string python() {
  auto const* const wanted = std::getenv("SARA_PYTHON");
  return wanted != nullptr ? wanted : SARA_BENCH_PYTHON;
}

std::shared_ptr<worker> pytorch(std::string const& operation, scratch_folder const& folder, std::string const& place,
                                char const* script) {
  return std::make_shared<worker>(std::vector<std::string>{python(), std::string{SARA_BENCH_PEERS "/"} + script,
                                                           operation, folder.path().string(), place});
}
std::shared_ptr<worker> pytorch(std::string const& operation, scratch_folder const& folder, int threads,
                                char const* script) {
  return pytorch(operation, folder, std::to_string(threads), script);
}

}  // namespace bench
