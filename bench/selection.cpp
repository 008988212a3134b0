// SPDX-License-Identifier: Apache-2.0
// Selection and exact cuts, against one read of the weights, std::nth_element and PyTorch.
#include <sara/backend/host.hpp>
#include <sara/select/concept.hpp>
#include <sara/tensor/traits.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "harness/case.hpp"
#include "harness/inputs.hpp"
#include "harness/process.hpp"
#include "harness/streams.hpp"

namespace {

struct work {
  sara::host backend;
  std::vector<float> weights;
  double density;
  sara::host::buffer<std::int64_t> positions = {};
  float cut = 0;
  bench::scratch_folder folder = {};

  work(std::int64_t size, double share, int threads)
      : backend{threads}, weights{bench::uniform("weights", size)}, density{share} {}

  [[nodiscard]] sara::scored_tensor<sara::magnitude> scored() const {
    return {sara::view(weights.data(), {std::ssize(weights)}), {}};
  }
  [[nodiscard]] float threshold() const { return static_cast<float>(density); }  // of weights uniform in [-1, 1)
  [[nodiscard]] std::int64_t rank() const { return std::llround(density * static_cast<double>(weights.size())); }

  void compact() { positions = backend.compact(scored(), {sara::order_key(double{threshold()}), 0}).positions; }
  void find_cut() {
    auto const all = scored();
    auto const found = backend.order_statistic(std::span<sara::scored_tensor<sara::magnitude> const>{&all, 1}, rank());
    cut = static_cast<float>(sara::score_of_key(found.bound));
  }

  void give_to_workers(nlohmann::json const& numbers) const {
    folder.write("weights", weights);
    std::ofstream{folder.path() / "numbers.json"} << numbers;
  }
};

using shared_work = std::shared_ptr<work>;

/// What one would write by hand.
bench::contender loop(shared_work const& w) {
  auto const found = std::make_shared<std::vector<std::int64_t>>();
  auto const run = [=] {
    *found = {};  // as sara's result, every time anew
    for (std::size_t i = 0; i < w->weights.size(); ++i)
      if (std::abs(w->weights[i]) < w->threshold()) found->push_back(static_cast<std::int64_t>(i));
  };
  return {"a loop with push_back", bench::timed(run), 8 * w->rank(),
          [=] { return w->positions == *found ? 0.0 : 1.0; }};
}

bench::contender nonzero(shared_work const& w, int threads) {
  w->give_to_workers({{"threshold", w->threshold()}});
  auto const peer = bench::pytorch("nonzero", w->folder, threads);
  // |w| in float32, a mask, and the positions
  return {"PyTorch abs, <, nonzero", [=] { return peer->run(); }, 5 * std::ssize(w->weights) + 8 * w->rank(),
          [=] {
            peer->save();
            return w->positions == w->folder.read<std::int64_t>("result") ? 0.0 : 1.0;
          }};
}

bench::contender nth_element(shared_work const& w) {
  auto const magnitudes = std::make_shared<std::vector<float>>(w->weights.size());
  auto const run = [=] {
    std::transform(w->weights.begin(), w->weights.end(), magnitudes->begin(), [](float x) { return std::abs(x); });
    std::nth_element(magnitudes->begin(), magnitudes->begin() + (w->rank() - 1), magnitudes->end());
  };
  return {"std::nth_element", bench::timed(run), 4 * std::ssize(w->weights),
          [=] { return (*magnitudes)[static_cast<std::size_t>(w->rank() - 1)] == w->cut ? 0.0 : 1.0; }};
}

bench::contender kthvalue(shared_work const& w, int threads) {
  w->give_to_workers({{"rank", w->rank()}});
  auto const peer = bench::pytorch("kthvalue", w->folder, threads);
  // |w|, and copies of values and indices to sort in
  return {"PyTorch abs, kthvalue", [=] { return peer->run(); }, 16 * std::ssize(w->weights),
          [=] {
            peer->save();
            return w->folder.read<float>("result").at(0) == w->cut ? 0.0 : 1.0;
          }};
}

bench::trial selection(std::int64_t size, double density, int threads, bool with_peers) {
  auto const w = std::make_shared<work>(size, density, threads);
  bench::trial t;
  t.sara = {"sara", bench::timed([w] { w->compact(); })};
  if (with_peers) t.peers = {loop(w), nonzero(w, threads)};
  t.limit = bench::one_read(w->backend, std::span<float const>{w->weights});
  t.bytes = 4 * static_cast<double>(size) + 8 * static_cast<double>(w->rank());
  return t;
}

bench::trial exact_cut(std::int64_t size, double density, int threads, bool with_peers, bool with_kthvalue) {
  auto const w = std::make_shared<work>(size, density, threads);
  bench::trial t;
  t.sara = {"sara", bench::timed([w] { w->find_cut(); })};
  if (with_peers) t.peers.push_back(nth_element(w));
  if (with_kthvalue) t.peers.push_back(kthvalue(w, threads));
  t.limit = bench::one_read(w->backend, std::span<float const>{w->weights});
  t.bytes = 4 * static_cast<double>(size);
  return t;
}

std::string millions(std::int64_t size) { return std::to_string(size / 1'000'000) + " M"; }

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  auto const add = [&](char const* name, std::int64_t size, double density, bool starred, std::vector<int> threads,
                       std::function<bench::trial(int)> prepare) {
    all.push_back({.name = name,
                   .shape = millions(size),
                   .density = density,
                   .starred = starred,
                   .threads = std::move(threads),
                   .prepare = std::move(prepare)});
  };
  for (std::int64_t const size : {20'000'000, 100'000'000})
    for (double const density : bench::densities) {
      bool const starred = size == 20'000'000 && density == 0.058;
      add("selection", size, density, starred, {1}, [=](int n) { return selection(size, density, n, true); });
      // kthvalue sorts everything: at 100 M once is enough
      add("exact cut", size, density, starred, {1},
          [=](int n) { return exact_cut(size, density, n, true, size < 100'000'000 || density == 0.058); });
    }
  for (std::int64_t const size : {1'000'000, 4'000'000, 16'000'000, 64'000'000, 256'000'000}) {
    add("growth selection", size, 0.058, false, {1, 2}, [=](int n) { return selection(size, 0.058, n, false); });
    add("growth exact cut", size, 0.058, false, {1, 2}, [=](int n) { return exact_cut(size, 0.058, n, false, false); });
  }
  return all;
}

bench::family const family{"3 selection", list};

}  // namespace
