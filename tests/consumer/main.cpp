// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <sara/sara.hpp>

int main() { std::cout << "sara " << sara::version << '\n'; }
