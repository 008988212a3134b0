// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/sara.hpp>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.hpp"
#include "weights.hpp"

namespace unet {

/// Adds trained adapters to a base model in place; several are merged.
/// @param files   adapters
/// @param scales  α of each, or none for 1 each
/// @throws  std::invalid_argument if there are scales, but not one for each file
/// @throws  sara::error if a file is no adapter, or one of other base weights
inline void apply_adapters(sara::host const& backend, model<float>& net,
                           std::vector<std::filesystem::path> const& files, std::vector<double> const& scales) {
  if (files.empty() && scales.empty()) return;
  if (!scales.empty() && scales.size() != files.size())
    throw std::invalid_argument{"expected one scale for each adapter, got " + std::to_string(scales.size()) +
                                " scales for " + std::to_string(files.size()) + " adapters"};
  std::vector<sara::adapter> adapters;
  adapters.reserve(files.size());
  for (auto const& file : files) adapters.push_back(sara::load_adapter(file));
  std::vector<sara::weighted_adapter> parts;
  parts.reserve(adapters.size());
  for (std::size_t i = 0; i < adapters.size(); ++i) parts.push_back({adapters[i], scales.empty() ? 1.0 : scales[i]});
  [[maybe_unused]] auto const applied = sara::apply(backend, sara::merge(parts), named_weights(net));
}

}  // namespace unet
