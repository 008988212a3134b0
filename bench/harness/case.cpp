// SPDX-License-Identifier: Apache-2.0
#include "case.hpp"

#include <iterator>
#include <map>

namespace bench {

namespace {
/// By name, since the order in which files initialise is not defined.
std::map<std::string, std::function<std::vector<benchmark>()>>& families() {
  static std::map<std::string, std::function<std::vector<benchmark>()>> all;
  return all;
}
}  // namespace

family::family(char const* name, std::function<std::vector<benchmark>()> list) {
  families().emplace(name, std::move(list));
}

std::vector<benchmark> all_benchmarks() {
  std::vector<benchmark> all;
  for (auto const& [name, list] : families()) {
    auto some = list();
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace bench
