// SPDX-License-Identifier: Apache-2.0
// A ConvNet that knows emoji in three drawing styles learns a fourth, three times: all of it, its near-zero weights by
// sara, and low-rank layers beside it. Full fine-tuning and sara differ in one line.
//   torch_finetune              pre-trains, fine-tunes in a process each, prints a table
//   torch_finetune METHOD BASE  fine-tunes once and prints its row
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <sara/torch/adamw.hpp>

#include "network.hpp"
#include "task.hpp"

namespace {

using finetune::task;

constexpr std::int64_t learning_epochs = 6;

/// Kilobytes of a line of /proc/self/status.
std::int64_t status(std::string const& name) {
  std::ifstream lines{"/proc/self/status"};
  std::string word;
  for (std::int64_t kilobytes = 0; lines >> word;)
    if (word == name + ":" && lines >> kilobytes) return kilobytes;
  return 0;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::int64_t count(std::vector<at::Tensor> const& tensors) {
  std::int64_t n = 0;
  for (auto const& t : tensors) n += t.numel();
  return n;
}

void fine_tune(std::string const& method, std::string const& base) {
  task const old_styles{{"noto", "twemoji", "fluent-flat"}}, new_style{{"fluent-high-contrast"}};
  torch::manual_seed(2);
  auto network = finetune::make_network(new_style.classes);
  torch::load(network, base);
  std::ofstream{"/proc/self/clear_refs"} << 5;  // the peak counts from here
  auto const before = status("VmRSS");
  auto const begin = std::chrono::steady_clock::now();
  std::int64_t trained = 0;
  auto const learn = [&](torch::optim::Optimizer& optimizer) {
    finetune::train(network, optimizer, new_style.train, learning_epochs);
  };
  if (method == "full") {
    torch::optim::AdamW optimizer{network->parameters(), torch::optim::AdamWOptions(3e-4).weight_decay(0)};
    trained = count(network->parameters());
    learn(optimizer);
  } else if (method == "sara") {
    sara::torch::adamw optimizer{*network, {.threshold = 5e-3, .lr = 1e-3, .weight_decay = 0}};
    trained = optimizer.learning();
    learn(optimizer);
  } else if (method == "lora") {
    auto const parameters = finetune::add_low_rank(*network, 16);
    torch::optim::AdamW optimizer{parameters, torch::optim::AdamWOptions(1e-3).weight_decay(0)};
    trained = count(parameters);
    learn(optimizer);
  } else if (method != "base") {
    throw std::invalid_argument{"expected base, full, sara or lora, got " + method};
  }
  auto const seconds = seconds_since(begin);
  auto const peak = status("VmHWM") - before;
  std::printf("| %s | %.3f | %.3f | %lld | %.1f MB | %.1f s |\n", method.c_str(),
              finetune::accuracy(network, new_style.test), finetune::accuracy(network, old_styles.test),
              static_cast<long long>(trained), static_cast<double>(peak) / 1024, seconds);
}

void pre_train(std::string const& base) {
  task const styles{{"noto", "twemoji", "fluent-flat"}};
  torch::manual_seed(1);
  auto network = finetune::make_network(styles.classes);
  torch::optim::AdamW optimizer{network->parameters(), torch::optim::AdamWOptions(1e-3).weight_decay(1e-2)};
  finetune::train(network, optimizer, styles.train, 6, 32);
  for (auto& group : optimizer.param_groups()) group.options().set_lr(2e-4);
  finetune::train(network, optimizer, styles.train, 2, 32);
  torch::save(network, base);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 3) {
    fine_tune(argv[1], argv[2]);
    return 0;
  }
  auto const base = (std::filesystem::temp_directory_path() / "sara_torch_finetune.pt").string();
  pre_train(base);
  std::printf("| | new style | old styles | trained weights | peak memory | time |\n|---|---|---|---|---|---|\n");
  std::fflush(stdout);
  for (std::string const method : {"base", "full", "sara", "lora"})
    if (std::system((std::ostringstream{} << "'" << argv[0] << "' " << method << " '" << base << "'").str().c_str()) !=
        0)
      return 1;
  std::filesystem::remove(base);
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "torch_finetune: %s\n", error.what());
  return 1;
}
