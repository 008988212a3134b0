// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "pretrain.hpp"

int main(int argc, char** argv) try {
  CLI::App app{"A small diffusion model of emoji that learns new drawing styles with sara"};
  app.require_subcommand(1);

  unet::pretrain_settings pretraining;
  auto* const pretrain = app.add_subcommand("pretrain", "Train the base model; goes on where FILE.state stopped");
  pretrain->add_option("--data", pretraining.data, "Folder with emoji.json and the sheets")->required();
  pretrain->add_option("--out", pretraining.out, "Checkpoint to write")->required();
  pretrain->add_option("--steps", pretraining.steps, "Steps in all")->capture_default_str();
  pretrain->add_option("--seed", pretraining.seed, "Seed of weights, order and noise")->capture_default_str();
  pretrain->add_option("--threads", pretraining.threads, "Threads, 0 for one per core")->capture_default_str();
  pretrain->add_option("--styles", pretraining.styles, "Sheets to learn from")->capture_default_str();

  CLI11_PARSE(app, argc, argv);
  if (*pretrain) unet::pretrain(pretraining);
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "unet: %s\n", error.what());
  return 1;
}
