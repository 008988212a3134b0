// SPDX-License-Identifier: Apache-2.0
// expect: sara::fine_tuner: store_as expects a SparseParameterStore
#include <sara/sara.hpp>
#include <string>
#include <utility>
#include <vector>

template <class Backend>
struct no_store {};

void tune(std::vector<std::pair<std::string, std::vector<float>>>& weights) {
  sara::fine_tuner tuner{sara::host{}, weights, sara::store_as<no_store>{}};
}
