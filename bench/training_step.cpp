// SPDX-License-Identifier: Apache-2.0
// The whole training step of examples/unet, sara in C++ against four ways to do it in PyTorch, and
// with the low-rank loss against itself without; each in a fresh process.
#include <cmath>
#include <memory>

#include "harness/case.hpp"
#include "harness/process.hpp"

namespace {

struct work {
  bench::scratch_folder folder;
  bench::worker sara;

  explicit work(int threads, double lambda = 0)
      : sara{{SARA_BENCH_STEP_WORKER, folder.path().string(), std::to_string(threads), std::to_string(lambda)}} {
    static_cast<void>(sara.idle());  // an answer: the inputs for the others are written
  }
};

/// Largest relative difference of the losses of the first `steps` steps: of the forward pass in the first, then of
/// gradients, selection and update.
double losses_differ(work& w, bench::worker& peer, bench::scratch_folder const& peers_folder, std::size_t steps) {
  auto const of = [&](bench::worker& who, bench::scratch_folder const& folder) {
    for (;;) {
      who.save();
      auto const losses = folder.read<double>("losses");
      if (losses.size() >= steps) return losses;
      static_cast<void>(who.run());
    }
  };
  auto const expected = of(w.sara, w.folder), got = of(peer, peers_folder);
  double worst = 0;
  for (std::size_t i = 0; i < steps; ++i) worst = std::max(worst, std::abs(got[i] / expected[i] - 1));
  return worst;
}

bench::contender by_sara(char const* name, std::shared_ptr<work> const& w) {
  return {name, [w] { return w->sara.run(); }, 0, {}, [w] { return w->sara.fresh_memory(); }, w->sara.idle()};
}

bench::trial against_pytorch(int threads) {
  auto const w = std::make_shared<work>(threads);
  bench::trial t;
  t.tolerance = 1e-4;
  t.sara = by_sara("sara", w);
  struct method {
    char const* title;
    char const* name;
    std::size_t same_steps;  // as sara: all of them where the same weights learn
  };
  for (auto const& [title, name, same_steps] : {method{"PyTorch full", "full", 1},
                                                {"PyTorch masked gradients", "masked", 4},
                                                {"PyTorch LoRA", "lora", 1},
                                                {"PyTorch gather in layer", "sparse", 4}}) {
    auto const peer = bench::pytorch(name, w->folder, threads, "training_step.py");
    t.peers.push_back({title, [peer] { return peer->run(); }, 0,
                       [w, peer, n = same_steps] { return losses_differ(*w, *peer, w->folder, n); },
                       [peer] { return peer->fresh_memory(); }, peer->idle()});
  }
  return t;
}

/// What the low-rank loss on every matrix of the model costs in each step.
bench::trial with_low_rank_loss(int threads) {
  auto const with = std::make_shared<work>(threads, 5e-4);
  auto const without = std::make_shared<work>(threads);
  bench::trial t;
  t.tolerance = 1e-6;
  t.sara = by_sara("sara", with);
  t.peers.push_back(by_sara("sara without it", without));
  t.peers.back().difference = [=] { return losses_differ(*with, without->sara, without->folder, 1); };
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  auto const add = [&](char const* name, bench::trial (*prepare)(int)) {
    all.push_back(
        {.name = name, .shape = "UNet 3.5 M, B32 32x32", .density = 0.2, .threads = {1, 2}, .prepare = prepare});
  };
  add("training step", against_pytorch);
  add("training step, low-rank loss", with_low_rank_loss);
  return all;
}

bench::family const family{"8 training step", list};

}  // namespace
