// SPDX-License-Identifier: Apache-2.0
#include "finetune.hpp"

#include <sara/sara.hpp>

#include <filesystem>
#include <optional>

#include "progress.hpp"
#include "text.hpp"
#include "tuning.hpp"

namespace unet {

finetune_result fine_tune(sara::host const& backend, model<float>& net, dataset const& data,
                          finetune_settings const& how, finetune_control const& control) {
  return tune(backend, net, data, how, control);
}

finetune_result fine_tune_with_progress(engine& net, dataset const& data, finetune_settings const& how,
                                        std::filesystem::path const& state, bool resume) {
  interruption const interrupted;
  std::optional<progress_line> progress;
  double recent = 0;
  auto const watch = [&](finetune_step const& done) {
    recent = progress ? 0.95 * recent + 0.05 * done.loss : done.loss;
    if (!progress) progress.emplace("steps", how.steps, done.step - 1);
    progress->show(done.step, format("loss %.4f, rate %.1e", recent, done.rate));
  };
  return net.fine_tune(
      data, how, {.state = state, .resume = resume, .watch = watch, .stop = [&] { return interrupted.requested(); }});
}

}  // namespace unet
