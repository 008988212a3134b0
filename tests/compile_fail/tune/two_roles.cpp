// SPDX-License-Identifier: Apache-2.0
// expect: sara::fine_tuner: an argument plays two roles\. Expected a type that models one concept
#include <sara/sara.hpp>
#include <string>
#include <utility>
#include <vector>

struct selector_and_rule : sara::below, sara::adamw {};

void tune(std::vector<std::pair<std::string, std::vector<float>>>& weights) {
  sara::fine_tuner tuner{sara::host{}, weights, selector_and_rule{}};
}
