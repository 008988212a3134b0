// SPDX-License-Identifier: Apache-2.0
// The whole training step of examples/unet, sara in C++ against four ways to do it in PyTorch; each in a fresh process.
#include <cmath>
#include <memory>

#include "harness/case.hpp"
#include "harness/process.hpp"

namespace {

struct work {
  bench::scratch_folder folder;
  bench::worker sara;

  explicit work(int threads) : sara{{SARA_BENCH_STEP_WORKER, folder.path().string(), std::to_string(threads)}} {
    static_cast<void>(sara.idle());  // an answer: the inputs for the others are written
  }
};

/// Largest relative difference of the losses of the first `steps` steps: of the forward pass in the first, then of
/// gradients, selection and update.
double losses_differ(work& w, bench::worker& peer, std::size_t steps) {
  auto const of = [&](bench::worker& who) {
    for (;;) {
      who.save();
      auto const losses = w.folder.read<double>("losses");
      if (losses.size() >= steps) return losses;
      static_cast<void>(who.run());
    }
  };
  auto const expected = of(w.sara), got = of(peer);
  double worst = 0;
  for (std::size_t i = 0; i < steps; ++i) worst = std::max(worst, std::abs(got[i] / expected[i] - 1));
  return worst;
}

bench::trial prepare(int threads) {
  auto const w = std::make_shared<work>(threads);
  bench::trial t;
  t.tolerance = 1e-4;
  t.sara = {"sara", [w] { return w->sara.run(); }, 0, {}, [w] { return w->sara.memory(); }, w->sara.idle()};
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
                       [w, peer, n = same_steps] { return losses_differ(*w, *peer, n); },
                       [peer] { return peer->memory(); }, peer->idle()});
  }
  return t;
}

bench::family const family{"7 training step", [] {
                             return std::vector<bench::benchmark>{{.name = "training step",
                                                                   .shape = "UNet 3.5 M, B32 32x32",
                                                                   .density = 0.2,
                                                                   .threads = {1, 2},
                                                                   .prepare = prepare}};
                           }};

}  // namespace
