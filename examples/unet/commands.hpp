// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/sara.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "diffusion.hpp"
#include "engine.hpp"
#include "finetune.hpp"

/// What the program's commands do, from files to files.
namespace unet {

/// A model as it is named on the command line: a checkpoint, and adapters on it.
struct model_files {
  std::filesystem::path base = {};
  std::vector<std::filesystem::path> adapters = {};
  std::vector<double> scales = {};  ///< of the adapters; none for 1 each
};

/// @param backend  its threads must outlive the model
/// @throws  what load_checkpoint and apply_adapters throw
[[nodiscard]] checkpoint load_model(sara::host const& backend, model_files const& files);

struct finetune_command {
  std::filesystem::path base = {};
  std::filesystem::path data = {};    ///< folder with emoji.json and the sheets
  std::string style = {};             ///< one of its sheets
  std::filesystem::path images = {};  ///< or a folder of pictures with metadata.jsonl
  std::filesystem::path out = {};     ///< folder
  finetune_settings tuning = {};
  bool resume = false;
  device_choice machine = {};
  int threads = 0;
};

/// Fine-tunes a checkpoint on a style or a folder of pictures.
/// Writes adapter.safetensors (or model.safetensors where everything learned) and settings.json; after Ctrl-C,
/// state.safetensors.
void run(finetune_command const& how);

struct sample_command {
  model_files model = {};
  std::filesystem::path data = {};         ///< folder with emoji.json, for the names of classes
  std::vector<std::string> labels = {};    ///< names or numbers of classes
  std::vector<std::string> captions = {};  ///< with labels, as many
  std::size_t count = 6;                   ///< pictures of each
  std::uint64_t seed = 1;
  sampling drawing = {};
  std::filesystem::path out = {};
  device_choice machine = {};
  int threads = 0;
};

/// Draws pictures of classes, captions or both, a row for each, and writes them as one PNG.
void run(sample_command const& how);

struct evaluate_command {
  model_files model = {};
  std::filesystem::path data = {};
  std::string style = {};
  std::uint64_t seed = 1;
  sampling drawing = {};
  device_choice machine = {};
  int threads = 0;
};

/// Prints how well a model draws a style.
void run(evaluate_command const& how);

struct inspect_command {
  std::filesystem::path base = {};
  std::filesystem::path adapter = {};  ///< instead of the base model
  std::vector<double> thresholds = {1e-4, 1e-3, 2e-3, 5e-3, 1e-2};
};

/// Prints how many of the base model's weights are below thresholds, or what an adapter changes.
void run(inspect_command const& how);

}  // namespace unet
