// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/host.hpp>

#include <filesystem>

#include "dataset.hpp"
#include "engine.hpp"
#include "finetune_settings.hpp"
#include "model.hpp"

namespace unet {

/// Teaches a model on the host the pictures to train on in `data`: `tune`, in a unit of its own.
[[nodiscard]] finetune_result fine_tune(sara::host const& backend, model<float>& net, dataset const& data,
                                        finetune_settings const& how, finetune_control const& control);

/// Teaches a network on any machine, with a progress line; Ctrl-C stops it and leaves a state to resume from.
[[nodiscard]] finetune_result fine_tune_with_progress(engine& net, dataset const& data, finetune_settings const& how,
                                                      std::filesystem::path const& state, bool resume = false);

}  // namespace unet
