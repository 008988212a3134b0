// SPDX-License-Identifier: Apache-2.0
// Training steps of a libtorch model in a process of its own: torch_worker FOLDER MODEL METHOD BATCH THREADS.
//
// MODEL   linear: 24 × Linear(1280); convolution: 8 × Conv2d(320, 3x3) on 16x16; transformer: 6 encoder layers of 640
// METHOD  full: torch::optim::AdamW; masked: the same on the smallest 5 %, dense gradients times a mask;
//         lora: low-rank layers of about as many parameters; gathered: sara::torch::adamw, the model as it is;
//         sampled: the same with operators that sample; in_backward: the same, each weight updated in the backward
//         pass
// The protocol: bench/harness/process.hpp.
#include <torch/torch.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <sara/torch/adamw.hpp>
#include <sara/torch/sampled_operators.hpp>

#include "../harness/serve.hpp"
#include "examples/torch_finetune/network.hpp"

namespace {

constexpr double density = 0.05, rate = 1e-4;

struct problem {
  torch::nn::Sequential model;
  at::Tensor x;
  double widest = 0;       ///< weights are uniform in ± this
  std::int64_t rank = 32;  ///< of LoRA

  problem(std::string const& name, std::int64_t batch) {
    using namespace torch::nn;
    if (name == "linear") {
      for (int i = 0; i < 24; ++i) model->push_back(Linear(1280, 1280));
      x = torch::randn({batch, 1280});
      widest = 1 / std::sqrt(1280.0);
    } else if (name == "convolution") {
      for (int i = 0; i < 8; ++i) model->push_back(Conv2d(Conv2dOptions(320, 320, 3).padding(1)));
      x = torch::randn({batch, 320, 16, 16});
      widest = 1 / std::sqrt(2880.0);
      rank = 13;
    } else if (name == "transformer") {
      for (int i = 0; i < 6; ++i)
        model->push_back(
            TransformerEncoderLayer(TransformerEncoderLayerOptions(640, 10).dim_feedforward(2560).dropout(0)));
      x = torch::randn({64, batch, 640});
      widest = 1 / std::sqrt(640.0);
    } else {
      throw std::invalid_argument{"expected linear, convolution or transformer, got " + name};
    }
  }
};

/// A training method: what to do between the backward passes.
struct method {
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  std::function<void()> before_step = [] {};
  std::optional<sara::torch::sampled_operators> sampling;

  method(std::string const& name, problem& p) {
    auto const options = torch::optim::AdamWOptions(rate).weight_decay(0);
    if (name == "full") {
      optimizer = std::make_unique<torch::optim::AdamW>(p.model->parameters(), options);
    } else if (name == "masked") {
      optimizer = std::make_unique<torch::optim::AdamW>(p.model->parameters(), options);
      std::vector<std::pair<at::Tensor, at::Tensor>> masks;
      for (auto const& w : p.model->parameters()) masks.emplace_back(w, w.detach().abs().lt(density * p.widest));
      before_step = [masks] {
        for (auto const& [w, mask] : masks) w.mutable_grad().mul_(mask);
      };
    } else if (name == "lora") {
      optimizer = std::make_unique<torch::optim::AdamW>(finetune::add_low_rank(*p.model, p.rank), options);
    } else if (name == "gathered" || name == "sampled" || name == "in_backward") {
      if (name != "gathered") sampling.emplace();
      optimizer = std::make_unique<sara::torch::adamw>(
          *p.model, sara::torch::adamw_options{.threshold = density * p.widest,
                                               .lr = rate,
                                               .weight_decay = 0,
                                               .update_in_backward = name == "in_backward"});
    } else {
      throw std::invalid_argument{"expected full, masked, lora, gathered, sampled or in_backward, got " + name};
    }
  }
};

void serve(std::filesystem::path const& folder, std::string const& model, std::string const& name, std::int64_t batch,
           int threads) {
  at::set_num_threads(threads);
  auto const idle = bench::status_bytes("VmRSS");
  torch::manual_seed(1);
  problem p{model, batch};
  method m{name, p};
  bench::serve(folder, idle, [&] {
    finetune::drop_gradients(*m.optimizer);
    auto const loss = p.model->forward(p.x).square().mean();
    loss.backward();
    m.before_step();
    m.optimizer->step();
    return loss.item<double>();
  });
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6) throw std::invalid_argument{"expected FOLDER MODEL METHOD BATCH THREADS"};
  serve(argv[1], argv[2], argv[3], std::stoll(argv[4]), std::stoi(argv[5]));
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "torch_worker: %s\n", error.what());
  return 1;
}
