// SPDX-License-Identifier: Apache-2.0
// One step over one matrix: needs every header, Eigen, JSON and threads.
#include <sara/sara.hpp>
#include <string>
#include <utility>
#include <vector>

int main() {
  std::vector<std::pair<std::string, std::vector<float>>> weights{{"layer.weight", {0.5F, 1e-4F}}};
  sara::fine_tuner tuner{sara::host{}, weights, sara::below{.threshold = 2e-3}, sara::sgd{}};
  auto const learning = tuner.step().learning;
  return learning == 1 ? 0 : 1;
}
