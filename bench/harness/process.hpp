// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "case.hpp"

namespace bench {

/// A folder for the inputs and results of other processes; removed with everything in it.
class scratch_folder {
 public:
  scratch_folder();
  scratch_folder(scratch_folder const&) = delete;
  scratch_folder& operator=(scratch_folder const&) = delete;
  ~scratch_folder();

  [[nodiscard]] std::filesystem::path const& path() const { return path_; }

  /// Writes the elements as they are in memory.
  template <class T>
  void write(char const* name, std::vector<T> const& values) const {
    write_bytes(name, std::as_bytes(std::span{values}));
  }
  template <class T>
  [[nodiscard]] std::vector<T> read(char const* name) const {
    std::vector<T> values(static_cast<std::size_t>(std::filesystem::file_size(path_ / name)) / sizeof(T));
    read_bytes(name, std::as_writable_bytes(std::span{values}));
    return values;
  }

 private:
  void write_bytes(char const* name, std::span<std::byte const> bytes) const;
  void read_bytes(char const* name, std::span<std::byte> bytes) const;

  std::filesystem::path path_;
};

/// Another process that does work when it is told to: it reads a command a line, and answers with one line.
///
///     run        does the work once; answers with the seconds that it took
///     save       writes the results of the last run to its folder; answers "saved"
///     memory     answers with the most bytes of memory that it ever had (VmHWM, or of a device's memory)
///     idle       answers with the bytes that it had before it made anything: an interpreter's libraries
///
/// Peers that live in an interpreter are thus timed in turn with everybody else. It ends with its input.
class worker {
 public:
  /// @param environment  "NAME=value", beside what it inherits
  /// @throws std::runtime_error  if it cannot be started
  explicit worker(std::vector<std::string> command, std::vector<std::string> const& environment = {});
  worker(worker const&) = delete;
  worker& operator=(worker const&) = delete;
  ~worker();

  [[nodiscard]] double run();
  void save();
  [[nodiscard]] std::int64_t memory();
  [[nodiscard]] std::int64_t idle();
  /// The most bytes that another process of the same command has in three runs. It maps blocks of a mebibyte and more
  /// one by one, so that they are what is held: a heap's peak is its holes too, 40 MB more or less from one run of
  /// libtorch to the next.
  [[nodiscard]] std::int64_t fresh_memory() const;

 private:
  std::string ask(char const* command);

  std::vector<std::string> command_;
  std::string name_;
  pid_t pid_ = 0;
  std::FILE* in_ = nullptr;
  std::FILE* out_ = nullptr;
};

/// The interpreter that has PyTorch: SARA_PYTHON of the environment, or the one that was built for.
[[nodiscard]] std::string python();

/// PyTorch doing an operation of a script in bench/peers on the files of a folder, at a place: see peers/place.py.
[[nodiscard]] std::shared_ptr<worker> pytorch(std::string const& operation, scratch_folder const& folder,
                                              std::string const& place, char const* script = "operations.py");
/// On so many threads of the host.
[[nodiscard]] std::shared_ptr<worker> pytorch(std::string const& operation, scratch_folder const& folder, int threads,
                                              char const* script = "operations.py");

}  // namespace bench
