// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace sara {

/// Whether a name matches a glob: `*` stands for any characters, `?` for one; all others for themselves.
/// Complexity: O(name · pattern) at worst.
[[nodiscard]] inline bool matches_glob(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;  // the last `*` seen, and where in the name it began to stand
  std::size_t from = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++from;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

/// Which tensors may learn, by globs on their names: any of `include` and none of `exclude`.
///
///     sara::names{.exclude = {"*.bias", "*norm*"}}
struct names {
  std::vector<std::string> include = {"*"};
  std::vector<std::string> exclude = {};

  [[nodiscard]] bool contains(std::string_view name) const {
    auto const any = [&](std::vector<std::string> const& globs) {
      return std::any_of(globs.begin(), globs.end(), [&](auto const& glob) { return matches_glob(glob, name); });
    };
    return any(include) && !any(exclude);
  }
};

}  // namespace sara
