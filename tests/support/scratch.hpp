// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <sara/error.hpp>

namespace sara::test {

/// A folder of its own, removed with all that is in it.
class scratch {
 public:
  scratch() {
    auto name = (std::filesystem::temp_directory_path() / "sara.XXXXXX").string();
    detail::require<file_error>(mkdtemp(name.data()) != nullptr, name, ": expected a new folder, got none");
    folder_ = name;
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;

  [[nodiscard]] std::filesystem::path operator/(std::string const& name) const { return folder_ / name; }

 private:
  std::filesystem::path folder_;
};

[[nodiscard]] inline std::string read_file(std::filesystem::path const& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, {}};
}

inline void write_file(std::filesystem::path const& path, std::string const& bytes) {
  std::filesystem::remove(path);  // file systems may flush a file that is truncated and written anew, at every close
  std::ofstream{path, std::ios::binary | std::ios::trunc} << bytes;
}

}  // namespace sara::test
