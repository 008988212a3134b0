// SPDX-License-Identifier: Apache-2.0
// expect: sara::fine_tuner: an argument plays no role\. Expected a ThresholdSelector
#include <sara/sara.hpp>
#include <string>
#include <utility>
#include <vector>

void tune(std::vector<std::pair<std::string, std::vector<float>>>& weights) {
  sara::fine_tuner tuner{sara::host{}, weights, 0.5};
}
