// SPDX-License-Identifier: Apache-2.0
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (!__builtin_cpu_supports(SARA_TEST_FEATURE)) {
    std::puts("skipped: this processor has no " SARA_TEST_FEATURE);
    return 77;
  }
  return doctest::Context{argc, argv}.run();
}
