// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace unet {

/// What a picture is asked to show.
struct condition {
  int label = 0;                     ///< class; the last one stands for "any"
  std::span<int const> tokens = {};  ///< words of the caption; none stands for "anything"
};

/// @throws std::invalid_argument  unless there is a time for each condition, and a row of a table for all they name
inline void require_conditions(std::size_t times, std::span<condition const> conditions, std::int64_t classes,
                               std::int64_t words) {
  if (times != conditions.size())
    throw std::invalid_argument{"embedding: expected one time for each condition, got " + std::to_string(times) +
                                " for " + std::to_string(conditions.size())};
  for (auto const& [label, tokens] : conditions) {
    if (label < 0 || label >= classes)
      throw std::invalid_argument{"embedding: expected a class below " + std::to_string(classes) + ", got " +
                                  std::to_string(label)};
    for (int const token : tokens)
      if (token < 0 || token >= words)
        throw std::invalid_argument{"embedding: expected a word below " + std::to_string(words) + ", got " +
                                    std::to_string(token)};
  }
}

/// Cosines and sines of times in [0, 1] at frequencies that fall from 1000 to 0.1.
/// @param waves  [times, width]
template <class Real>
void write_waves(std::span<Real const> times, std::span<Real> waves) {
  if (times.empty()) return;
  auto const width = waves.size() / times.size(), half = width / 2;
  for (std::size_t n = 0; n < times.size(); ++n)
    for (std::size_t i = 0; i < half; ++i) {
      auto const frequency = std::exp(-std::log(1e4) * static_cast<double>(i) / static_cast<double>(half));
      auto const angle = 1e3 * static_cast<double>(times[n]) * frequency;
      waves[n * width + i] = static_cast<Real>(std::cos(angle));
      waves[n * width + half + i] = static_cast<Real>(std::sin(angle));
    }
}

}  // namespace unet
