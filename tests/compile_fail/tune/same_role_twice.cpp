// SPDX-License-Identifier: Apache-2.0
// expect: sara::fine_tuner: two arguments play the same role\. Expected at most one of each
#include <sara/sara.hpp>
#include <string>
#include <utility>
#include <vector>

void tune(std::vector<std::pair<std::string, std::vector<float>>>& weights) {
  sara::fine_tuner tuner{sara::host{}, weights, sara::adamw{}, sara::sgd{}};
}
