// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/adapter/adapter.hpp>
#include <sara/tune/segment.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace unet {

/// What a run of fine-tuning is determined by, together with base weights and pictures.
struct finetune_settings {
  std::string method = "sara";             ///< or "full": every weight of convolutions and linear layers learns
  std::string selector = "smallest";       ///< or "largest", "random": which of these weights learn
  double fraction = 0.2;                   ///< how many of them
  std::optional<double> threshold = {};    ///< instead of a fraction: those below it, as in the paper
  std::optional<double> rate = {};         ///< the highest; without it 3e-3, or 5e-4 if all learn
  std::int64_t steps = 300;                ///< in all
  std::int64_t warm_up = 20;               ///< steps of rising rate; then it falls to a tenth
  std::size_t batch = 32;                  ///< pictures a step
  double nuclear = 0;                      ///< λ of the low-rank loss
  std::string nuclear_matrices = "every";  ///< or "round-robin", "random": which matrices in a step
  std::string reselect = "never";          ///< or "halfway": only what is still small goes on learning
  double drop_label = 0.12;                ///< share of pictures shown as "any class"
  double drop_caption = 0.2;               ///< share shown without a caption
  std::size_t images_limit = 0;            ///< learn from so many pictures only; 0 for all
  std::uint64_t seed = 1;

  [[nodiscard]] bool full() const { return method == "full"; }
  [[nodiscard]] double highest_rate() const { return rate.value_or(full() ? 5e-4 : 3e-3); }
};

/// What one step did.
struct finetune_step {
  std::int64_t step = 0;  ///< from 1
  double loss = 0;        ///< mean over the batch
  double rate = 0;
};

/// How a run is watched and stopped.
struct finetune_control {
  std::filesystem::path state = {};  ///< a stopped run is kept here
  bool resume = false;               ///< go on from there
  std::function<void(finetune_step const&)> watch = [](auto const&) {};
  std::function<bool()> stop = [] { return false; };
};

/// What a run has come to.
struct finetune_result {
  sara::adapter adapter;
  std::int64_t steps = 0;     ///< fewer than asked for if it was stopped
  std::int64_t selected = 0;  ///< weights that learned
  std::int64_t tunable = 0;   ///< weights among which they were selected
  sara::memory_summary memory;
};

}  // namespace unet
