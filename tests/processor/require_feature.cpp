// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>

// Before every constructor of the tests, which are themselves compiled for the feature: main would be too late.
[[gnu::constructor(101)]] static void require_feature() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports(SARA_TEST_FEATURE)) return;
  std::puts("skipped: this processor has no " SARA_TEST_FEATURE);
  std::fflush(stdout);
  _exit(77);
}
