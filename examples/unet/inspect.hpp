// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "model.hpp"

namespace unet {

/// Prints how many weights of each layer, and of all, are below thresholds: how much a threshold would select.
void inspect_weights(model<float> const& net, std::vector<double> const& thresholds);

/// Prints what an adapter holds: entries of each tensor, their share of it, and the largest change.
void inspect_adapter(std::filesystem::path const& file);

}  // namespace unet
