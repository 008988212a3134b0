// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <sara/backend/host.hpp>

namespace sara::test {

struct on_host {
  using backend = host;
  static std::vector<host> all() { return {host{1}, host{3}}; }
};

}  // namespace sara::test
