// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>

#include <sara/io/safetensors.hpp>

namespace sara::test {

/// A file of tests/golden, read once. Its README says what each tensor is and how close one must come.
[[nodiscard]] inline safetensors const& golden(char const* file) {
  static std::map<std::string, safetensors, std::less<>> files;
  auto found = files.find(file);
  if (found == files.end())
    found = files.emplace(file, safetensors::load(std::string(SARA_GOLDEN_DIR "/") + file)).first;
  return found->second;
}

/// Extents of a stored tensor.
[[nodiscard]] inline extents shape_of(stored_tensor const& tensor) {
  extents shape;
  for (auto const extent : tensor.shape) shape.push_back(extent);
  return shape;
}

}  // namespace sara::test
