// SPDX-License-Identifier: Apache-2.0
// expect: sara: these tensors may only be read, but are to be written\. Expected a range whose tensors are not const
#include <sara/tensor/vector.hpp>
#include <string>
#include <utility>
#include <vector>

int main() {
  std::vector<std::pair<std::string, std::vector<float>>> const weights;
  static_cast<void>(sara::views_of<sara::tensor_view>(weights));
}
