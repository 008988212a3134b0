// SPDX-License-Identifier: Apache-2.0
// Training steps of libtorch models: sara::torch::adamw against full, masked and low-rank fine-tuning, each in a fresh
// process. Without libtorch there are none.
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "harness/case.hpp"
#include "harness/numbers.hpp"
#include "harness/process.hpp"

namespace {

struct run {
  bench::scratch_folder folder;
  bench::worker worker;
  run(std::string const& model, std::string const& method, int batch, int threads)
      : worker{{SARA_BENCH_TORCH_WORKER, folder.path().string(), model, method, std::to_string(batch),
                std::to_string(threads)}} {}

  /// Of the first `steps` steps.
  [[nodiscard]] std::vector<double> losses(std::size_t steps) {
    for (;;) {
      worker.save();
      auto all = folder.read<double>("losses");
      if (all.size() >= steps) {
        all.resize(steps);
        return all;
      }
      static_cast<void>(worker.run());
    }
  }
};

bench::contender contender(std::string const& title, std::shared_ptr<run> const& r) {
  return {title, [r] { return r->worker.run(); }, 0, {}, [r] { return r->worker.fresh_memory(); }, r->worker.idle()};
}

bench::trial trial(std::string const& model, int batch, int threads) {
  bool const has_low_rank = model != "transformer";  // whose layers name their own types
  auto const sara = std::make_shared<run>(model, "in_backward", batch, threads);
  bench::trial t;
  t.tolerance = 1e-5;
  t.sara = contender("sara", sara);
  struct peer {
    char const* title;
    char const* method;
    std::size_t same_steps;  // as sara: more than the first forward pass where the same entries learn
  };
  std::vector<peer> peers{{"libtorch full", "full", 1}, {"libtorch masked gradients", "masked", 4}};
  if (has_low_rank) peers.push_back({"libtorch LoRA", "lora", 1});
  peers.push_back({"sara, updates in step()", "sampled", 4});
  peers.push_back({"sara, gathered, updates in step()", "gathered", 4});
  for (auto const& [title, method, same_steps] : peers) {
    auto const other = std::make_shared<run>(model, method, batch, threads);
    auto c = contender(title, other);
    c.difference = [sara, other, n = same_steps] {
      return bench::relative_difference(sara->losses(n), other->losses(n));
    };
    t.peers.push_back(std::move(c));
  }
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  struct shape {
    char const* model;
    char const* title;
    std::vector<int> batches;
  };
  for (auto const& [model, title, batches] :
       {shape{"linear", "24 x Linear(1280)", {8, 256}}, shape{"convolution", "8 x Conv2d(320, 3x3) 16x16", {1, 16}},
        shape{"transformer", "6 encoder layers of 640", {1, 16}}})
    for (int const batch : batches)
      all.push_back(
          {.name = std::string("libtorch step, ") + model,
           .shape = std::string(title) + " B" + std::to_string(batch),
           .density = 0.05,
           .threads = {1, 2},
           .prepare = [model = std::string(model), batch](int threads) { return trial(model, batch, threads); }});
  return all;
}

bench::family const family{"9 libtorch", list};

}  // namespace
