// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "diffusion.hpp"
#include "engine.hpp"
#include "finetune.hpp"

namespace unet {

struct demo_settings {
  std::filesystem::path data;
  std::filesystem::path base;
  std::filesystem::path out;
  std::string style = "fluent-high-contrast";
  finetune_settings tuning;
  sampling drawing;
  std::uint64_t seed = 1;  ///< of the pictures that are drawn
  device_choice machine;
  int threads = 0;
};

/// The whole story at once: draws with the base model, teaches it a style, draws the same seeds again, and writes
/// before-after.png, adapter.safetensors and figures.txt.
void demo(demo_settings const& how);

}  // namespace unet
