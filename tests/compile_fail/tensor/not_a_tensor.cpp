// SPDX-License-Identifier: Apache-2.0
// expect: sara: this type is not a tensor\. Specialise sara::tensor_traits<T>
#include <sara/tensor/traits.hpp>
#include <string>

int main() {
  std::string text;
  sara::view(text);
}
