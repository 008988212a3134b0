// SPDX-License-Identifier: Apache-2.0
// A call that passed, as sara checks it: needs the headers and libraries of both, and C++20, but no device.
#include <sara/cuda/error.hpp>

int main() { sara::cuda::check(cudaSuccess, "nothing"); }
