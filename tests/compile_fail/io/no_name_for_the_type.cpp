// SPDX-License-Identifier: Apache-2.0
// expect: sara: safetensors has no name for this element type
#include <sara/io/safetensors.hpp>
#include <span>
#include <vector>

void save(sara::safetensors_writer& writer, std::vector<long double> const& values) {
  writer.add("weights", std::span{values}, {static_cast<std::int64_t>(values.size())});
}
