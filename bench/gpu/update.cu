// SPDX-License-Identifier: Apache-2.0
// AdamW on compact columns, and with the weights that they belong to, against what memory allows and
// torch.optim.AdamW.
#include <sara/store/row_index.hpp>
#include <sara/tune/update_entry.hpp>
#include <sara/update/adamw.hpp>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "harness/streams.cuh"
#include "peers/pytorch.hpp"

namespace {

using sara::cuda::device;

constexpr double rate = 1e-3;
/// Not the issue's: what a pass with nothing but streams should reach.
constexpr double near_streaming = 0.8;

/// The library's fused pass over the entries of a weight; it forgets the gradient, so from the second step on that is
/// zero.
template <class Positions>
struct work {
  bench::station& at;
  Positions positions;
  sara::cuda::buffer<float> weights;
  sara::cuda::buffer<float> gradient = bench::uniform_on<float>(at, "gradient", positions.count());
  sara::cuda::buffer<float> moments = at.gpu().allocate<float>(2 * positions.count());
  sara::cuda::buffer<sara::detail::update_sums> sums = at.gpu().allocate<sara::detail::update_sums>(1);
  sara::adamw rule = {};
  std::int64_t step = 0;
  bench::scratch_folder folder = {};

  work(bench::station& s, Positions p)
      : at{s}, positions{p}, weights{bench::uniform_on<float>(s, "values", p.shape().size())} {}

  void update() {
    using entry = sara::detail::update_entry<float, float, sara::adamw::kernel_type<float>>;
    sara::reduce(at.gpu(), positions,
                 entry{{weights.data(), static_cast<std::int64_t>(weights.size()), true, {}, {}},
                       nullptr,
                       gradient.data(),
                       moments.data(),
                       positions.count(),
                       rule.moments(),
                       nullptr,
                       rule.kernel<float>({++step, rate})},
                 sums.data());
  }
};

using compact_work = work<sara::all_positions>;

bench::contender torch_adamw(std::shared_ptr<compact_work> const& w) {
  w->folder.write("values", bench::taken_from(w->at, w->weights));
  w->folder.write("gradient", bench::taken_from(w->at, w->gradient));
  std::ofstream{w->folder.path() / "numbers.json"} << nlohmann::json{{"rate", rate},
                                                                     {"beta1", w->rule.beta1},
                                                                     {"beta2", w->rule.beta2},
                                                                     {"epsilon", w->rule.epsilon},
                                                                     {"weight_decay", w->rule.weight_decay}};
  auto const peer = bench::pytorch("adamw", w->folder, "cuda");
  return bench::on_device("torch.optim.AdamW, fused", peer, [=] {
    peer->save();
    return bench::relative_difference(bench::taken_from(w->at, w->weights), w->folder.read<float>("result"));
  });
}

bench::trial on_columns(std::int64_t count, bool with_pytorch) {
  auto const w = std::make_shared<compact_work>(bench::station_of(false), sara::all_positions{count});
  bench::trial t;
  if (with_pytorch && bench::has_pytorch_on_cuda()) t.peers.push_back(torch_adamw(w));
  t.sara = bench::on_device(w->at, "sara", 16 * count, [w] { w->update(); });
  t.limit = bench::four_streams(w->at, count);
  t.limit.goal = near_streaming;
  t.flops = 14 * static_cast<double>(count);
  t.bytes = 28 * static_cast<double>(count);
  return t;
}

/// The same with the weights that they are scattered in.
bench::trial in_weights(std::int64_t rows, double density) {
  constexpr std::int64_t cols = 4096;
  auto& at = bench::station_of(false);
  auto const positions = bench::random_positions("positions", rows * cols, density);
  auto const store = std::make_shared<sara::row_index<device>>(
      at.gpu(), sara::matrix_shape{rows, cols}, bench::placed_on(at, positions).data(), std::ssize(positions));
  auto const w = std::make_shared<work<sara::row_index<device>::ref_type>>(at, store->ref());
  bench::trial t;
  t.sara = bench::on_device(at, "sara", store->bytes() + 12 * store->count(), [w, store] { w->update(); });
  // gradients and moments read and written; positions; and the sectors of weights, read and written
  auto const sectors = std::min(4 * rows * cols, 32 * store->count());
  auto const bytes = 24 * store->count() + store->bytes() + 2 * sectors;
  auto streams = bench::one_read(at, "the same bytes moved", w->weights.data(), std::min(bytes / 2, 4 * rows * cols),
                                 bytes - std::min(bytes / 2, 4 * rows * cols));
  streams.goal = near_streaming;
  t.limit = streams;
  t.flops = 14 * static_cast<double>(store->count());
  t.bytes = static_cast<double>(bytes);
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  auto const add = [&](char const* name, std::int64_t millions, double density, bool starred,
                       std::function<bench::trial(int)> prepare) {
    all.push_back({.name = name,
                   .shape = std::to_string(millions) + " M",
                   .density = density,
                   .starred = starred,
                   .prepare = std::move(prepare)});
  };
  for (std::int64_t const millions : {5, 20, 50})
    add("AdamW", millions, 1, millions == 50, [=](int) { return on_columns(millions * 1'000'000, true); });
  for (double const density : bench::densities)
    add("AdamW in weights", 102, density, density == 0.058, [=](int) { return in_weights(25'000, density); });
  for (std::int64_t const millions : {1, 4, 16, 64})
    add("growth AdamW", millions, 1, false, [=](int) { return on_columns(millions * 1'000'000, false); });
  return all;
}

bench::family const family{"5 update", list};

}  // namespace
