// SPDX-License-Identifier: Apache-2.0
// A tensor of libtorch as sara sees it: needs the headers and libraries of both.
#include <ATen/ops/ones.h>
#include <sara/torch/tensor.hpp>

int main() { return sara::view(at::ones({2, 3})).size() == 6 ? 0 : 1; }
