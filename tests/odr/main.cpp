// SPDX-License-Identifier: Apache-2.0
#include <sara/sara.hpp>

char const* const* version_of_the_other_unit();

// An inline variable is one object in the whole program.
int main() { return &sara::version == version_of_the_other_unit() ? 0 : 1; }
