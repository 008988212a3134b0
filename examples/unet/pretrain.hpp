// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace unet {

struct pretrain_settings {
  std::filesystem::path data;
  std::filesystem::path out;
  std::filesystem::path from;  ///< a checkpoint to go on from with a fresh schedule; empty to start from nothing
  std::vector<std::string> styles = {"noto", "twemoji", "fluent-flat", "fluent-3d", "blob"};
  std::int64_t steps = 4000;
  std::size_t batch = 32;
  std::uint64_t seed = 1;
  double rate = 1e-3;
  std::int64_t warm_up = 100;
  int threads = 0;
};

/// Trains the base model from nothing or from a checkpoint, or goes on where `<out>.state` stopped.
/// Every 500 steps and on Ctrl-C it prints the held-out loss of the averaged weights and writes both files.
void pretrain(pretrain_settings const& how);

}  // namespace unet
