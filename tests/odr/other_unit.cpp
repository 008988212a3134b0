// SPDX-License-Identifier: Apache-2.0
#include <sara/sara.hpp>

char const* const* version_of_the_other_unit() { return &sara::version; }
