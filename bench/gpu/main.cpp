// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "../harness/suite.hpp"
#include "harness/limits.hpp"
#include "peers/pytorch.hpp"

int main(int argc, char** argv) {
  return bench::run(
      {.description = "Measures sara on a CUDA device against its peers; every result is compared before it is timed",
       .limits = [](bench::benchmark const& b, int) { return bench::device_limits(b); },
       .seconds = 0.15,
       .quick_seconds = 0.06,
       .has_threads = false,
       .introduce =
           [] {
             bench::require_device();
             if (!bench::has_pytorch_on_cuda())
               std::printf("PyTorch with CUDA: %s has none, so its rows are left out\n", bench::python().c_str());
           }},
      argc, argv);
}
