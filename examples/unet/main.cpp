// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>

#include "classifier_training.hpp"
#include "commands.hpp"
#include "demo.hpp"
#include "diffusion.hpp"
#include "engine.hpp"
#include "finetune.hpp"
#include "pretrain.hpp"

namespace {

std::string const data_folder = UNET_DATA;
std::string const base_file = data_folder + "/base.safetensors";

/// A command whose settings live as long as it does.
template <class Settings>
struct command {
  CLI::App* app;
  std::shared_ptr<Settings> settings = std::make_shared<Settings>();

  command(CLI::App& program, char const* name, char const* what) : app{program.add_subcommand(name, what)} {
    app->option_defaults()->always_capture_default();
  }
  Settings* operator->() const { return settings.get(); }

  template <class Run>
  void runs(Run&& run) const {
    app->callback([run, how = settings] { run(*how); });
  }
};

void add_threads(CLI::App& app, int& threads) {
  app.add_option("--threads", threads, "Threads, 0 for one a processor; results do not depend on them");
}

void add_machine(CLI::App& app, unet::device_choice& choice, int& threads) {
  app.add_option("--device", choice.device, "Who computes the network")->check(CLI::IsMember({"host", "cuda"}));
  app.add_option("--precision", choice.precision, "What convolutions multiply, with --device cuda")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  add_threads(app, threads);
}

void add_data(CLI::App& app, std::filesystem::path& data) {
  data = data_folder;
  app.add_option("--data", data, "Folder with emoji.json, sheets and classifier")->check(CLI::ExistingDirectory);
}

void add_base(CLI::App& app, std::filesystem::path& base) {
  base = base_file;
  app.add_option("--base", base, "Checkpoint of the base model");
}

void add_model(CLI::App& app, unet::model_files& files) {
  add_base(app, files.base);
  app.add_option("--adapter", files.adapters, "Adapter of that base; give several to merge them");
  app.add_option("--scale", files.scales, "How much of each adapter, from 0 to 2 [1]");
}

void add_drawing(CLI::App& app, std::uint64_t& seed, unet::sampling& drawing) {
  app.add_option("--draw-seed", seed, "Seed of the noise that pictures begin as");
  app.add_option("--guidance", drawing.guidance, "How strictly to draw what is asked for, 1 for not at all");
  app.add_option("--ddim", drawing.steps, "Sampling steps")->check(CLI::PositiveNumber);
}

void add_tuning(CLI::App& app, unet::finetune_settings& tuning) {
  app.add_option("--method", tuning.method, "sara, or full: all weights of convolutions and linear layers")
      ->check(CLI::IsMember({"sara", "full"}));
  auto* const fraction =
      app.add_option("--fraction", tuning.fraction, "Share of these weights that learns")->check(CLI::Range(0.0, 1.0));
  app.add_option("--threshold", tuning.threshold, "Instead of a share: the weights below this magnitude learn")
      ->excludes(fraction);
  app.add_option("--selector", tuning.selector, "Which weights make up the share, by magnitude or at random")
      ->check(CLI::IsMember({"smallest", "largest", "random"}));
  app.add_option("--rate", tuning.rate, "Highest learning rate [3e-3, or 5e-4 with --method full]");
  app.add_option("--steps", tuning.steps, "Steps in all")->check(CLI::PositiveNumber);
  app.add_option("--warmup", tuning.warm_up, "First steps, with a rising rate")->check(CLI::NonNegativeNumber);
  app.add_option("--batch", tuning.batch, "Pictures a step")->check(CLI::PositiveNumber);
  app.add_option("--nuclear", tuning.nuclear, "Weight of the low-rank loss, 0 for none")->check(CLI::NonNegativeNumber);
  app.add_option("--nuclear-matrices", tuning.nuclear_matrices, "Matrices whose rank one step looks at")
      ->check(CLI::IsMember({"every", "round-robin", "random"}));
  app.add_option("--reselect", tuning.reselect, "When to freeze the weights that have grown")
      ->check(CLI::IsMember({"halfway", "never"}));
  app.add_option("--images-limit", tuning.images_limit, "Learn from so many pictures only, 0 for all");
  app.add_option("--seed", tuning.seed, "Seed of order, noise and random selection");
}

void add_demo(CLI::App& program) {
  command<unet::demo_settings> const demo{program, "demo", "Draw, learn a style, draw again; write what changed"};
  add_data(*demo.app, demo->data);
  add_base(*demo.app, demo->base);
  demo.app->add_option("--out", demo->out, "Folder for pictures, adapter and figures")->required();
  demo.app->add_option("--style", demo->style, "Sheet to learn");
  add_tuning(*demo.app, demo->tuning);
  add_drawing(*demo.app, demo->seed, demo->drawing);
  add_machine(*demo.app, demo->machine, demo->threads);
  demo.runs([](auto const& how) { unet::demo(how); });
}

void add_finetune(CLI::App& program) {
  command<unet::finetune_command> const tune{program, "finetune", "Teach the base model a style; write an adapter"};
  add_data(*tune.app, tune->data);
  add_base(*tune.app, tune->base);
  auto* const style = tune.app->add_option("--style", tune->style, "Sheet to learn");
  tune.app->add_option("--images", tune->images, "Or a folder of pictures with metadata.jsonl")->excludes(style);
  tune.app->add_option("--out", tune->out, "Folder for the adapter")->required();
  add_tuning(*tune.app, tune->tuning);
  tune.app->add_flag("--resume", tune->resume, "Go on where Ctrl-C stopped the same command");
  add_machine(*tune.app, tune->machine, tune->threads);
  tune.runs([](auto const& how) { unet::run(how); });
}

void add_sample(CLI::App& program) {
  command<unet::sample_command> const sample{program, "sample", "Draw pictures of classes and captions"};
  add_data(*sample.app, sample->data);
  add_model(*sample.app, sample->model);
  sample.app->add_option("--labels", sample->labels, "Classes by name or number, a row of pictures each");
  sample.app->add_option("--captions", sample->captions, "Captions, a row of pictures each; with labels, as many");
  sample.app->add_option("--count", sample->count, "Pictures a row")->check(CLI::PositiveNumber);
  add_drawing(*sample.app, sample->seed, sample->drawing);
  sample.app->add_option("--out", sample->out, "PNG to write")->required();
  add_machine(*sample.app, sample->machine, sample->threads);
  sample.runs([](auto const& how) { unet::run(how); });
}

void add_evaluate(CLI::App& program) {
  command<unet::evaluate_command> const evaluate{program, "evaluate", "Measure how well a model draws a style"};
  add_data(*evaluate.app, evaluate->data);
  add_model(*evaluate.app, evaluate->model);
  evaluate.app->add_option("--style", evaluate->style, "Sheet to compare with")->required();
  add_drawing(*evaluate.app, evaluate->seed, evaluate->drawing);
  add_machine(*evaluate.app, evaluate->machine, evaluate->threads);
  evaluate.runs([](auto const& how) { unet::run(how); });
}

void add_inspect(CLI::App& program) {
  command<unet::inspect_command> const inspect{program, "inspect",
                                               "Count the weights below thresholds, or an adapter's"};
  add_base(*inspect.app, inspect->base);
  inspect.app->add_option("--threshold", inspect->thresholds, "Thresholds")->check(CLI::PositiveNumber);
  inspect.app->add_option("--adapter", inspect->adapter, "Show this adapter instead");
  inspect.runs([](auto const& how) { unet::run(how); });
}

void add_pretrain(CLI::App& program) {
  command<unet::pretrain_settings> const pretrain{program, "pretrain",
                                                  "Train the base model; goes on where FILE.state stopped"};
  add_data(*pretrain.app, pretrain->data);
  pretrain.app->add_option("--out", pretrain->out, "Checkpoint to write")->required();
  pretrain.app->add_option("--from", pretrain->from, "Checkpoint to start from, with a schedule of its own")
      ->check(CLI::ExistingFile);
  pretrain.app->add_option("--steps", pretrain->steps, "Steps in all")->check(CLI::PositiveNumber);
  pretrain.app->add_option("--rate", pretrain->rate, "Highest learning rate")->check(CLI::PositiveNumber);
  pretrain.app->add_option("--seed", pretrain->seed, "Seed of weights, order and noise");
  pretrain.app->add_option("--styles", pretrain->styles, "Sheets to learn from");
  add_threads(*pretrain.app, pretrain->threads);
  pretrain.runs([](auto const& how) { unet::pretrain(how); });
}

void add_train_classifier(CLI::App& program) {
  command<unet::classifier_settings> const train{program, "train-classifier",
                                                 "Train the classifier that judges pictures"};
  add_data(*train.app, train->data);
  train.app->add_option("--out", train->out, "Classifier to write")->required();
  train.app->add_option("--steps", train->steps, "Steps in all")->check(CLI::PositiveNumber);
  train.app->add_option("--seed", train->seed, "Seed of weights, order and augmentation");
  train.app->add_option("--styles", train->styles, "Sheets to learn from, as far as they are there");
  add_threads(*train.app, train->threads);
  train.runs([](auto const& how) { unet::train_classifier(how); });
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"A small diffusion model of emoji that learns new drawing styles with sara"};
  app.require_subcommand(1);
  add_demo(app);
  add_finetune(app);
  add_sample(app);
  add_evaluate(app);
  add_inspect(app);
  add_pretrain(app);
  add_train_classifier(app);
  CLI11_PARSE(app, argc, argv);
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "unet: %s\n", error.what());
  return 1;
}
