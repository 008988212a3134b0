// SPDX-License-Identifier: Apache-2.0
// expect: sara::where expects a callable \(weight, std::int64_t position\) -> bool for float and double weights
#include <sara/select/where.hpp>

auto const selector = sara::where{[](float weight) { return weight > 0; }};
