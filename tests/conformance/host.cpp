// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include <sara/backend/host.hpp>

#include "memory.hpp"
#include "polar.hpp"
#include "products.hpp"
#include "selection.hpp"
#include "tuning.hpp"

namespace {

struct on_host {
  using backend = sara::host;
  static std::vector<sara::host> all() { return {sara::host{1}, sara::host{3}}; }
};

}  // namespace

SARA_MEMORY_CASES(on_host);
SARA_SELECTION_CASES(on_host);
SARA_PRODUCT_CASES(on_host);
SARA_POLAR_CASES(on_host);
SARA_TUNING_CASES(on_host);
