// SPDX-License-Identifier: Apache-2.0
// AdamW on compact columns, against torch.optim.AdamW and what memory allows.
#include <sara/backend/host.hpp>
#include <sara/tune/passes.hpp>
#include <sara/update/adamw.hpp>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "harness/case.hpp"
#include "harness/inputs.hpp"
#include "harness/process.hpp"
#include "harness/streams.hpp"

namespace {

constexpr double rate = 1e-3;

struct work {
  sara::host backend;
  sara::adamw rule;
  std::vector<float> values;
  std::vector<float> given_gradient;
  std::vector<float> gradient = given_gradient;
  std::vector<float> moments = std::vector<float>(2 * values.size());
  std::int64_t step = 0;
  bench::scratch_folder folder = {};

  work(std::int64_t count, int threads)
      : backend{threads}, values{bench::uniform("values", count)}, given_gradient{bench::uniform("gradient", count)} {}

  /// The library's fused pass; it forgets the gradient, so from the second step on that is zero.
  void update() {
    auto const count = std::ssize(values);
    sara::for_each(
        backend, sara::all_positions{count},
        sara::detail::update_entry<float, float, sara::adamw::kernel_type<float>>{{values.data(), count, true, {}, {}},
                                                                                  nullptr,
                                                                                  gradient.data(),
                                                                                  moments.data(),
                                                                                  count,
                                                                                  rule.moments(),
                                                                                  nullptr,
                                                                                  rule.kernel<float>({++step, rate})});
  }
};

bench::contender torch_adamw(std::shared_ptr<work> const& w, int threads) {
  w->folder.write("values", w->values);
  w->folder.write("gradient", w->given_gradient);
  std::ofstream{w->folder.path() / "numbers.json"} << nlohmann::json{{"rate", rate},
                                                                     {"beta1", w->rule.beta1},
                                                                     {"beta2", w->rule.beta2},
                                                                     {"epsilon", w->rule.epsilon},
                                                                     {"weight_decay", w->rule.weight_decay}};
  auto const peer = bench::pytorch("adamw", w->folder, threads);
  return {"torch.optim.AdamW", [=] { return peer->run(); }, 16 * std::ssize(w->values),
          [=] {
            peer->save();
            return bench::relative_difference(w->values, w->folder.read<float>("result"));
          }};
}

bench::trial prepare(std::int64_t count, int threads, bool with_peer) {
  auto const w = std::make_shared<work>(count, threads);
  bench::trial t;
  if (with_peer) t.peers.push_back(torch_adamw(w, threads));
  t.sara = {"sara", bench::timed([w] { w->update(); }), 16 * count};
  t.limit = bench::four_streams(w->backend, count);
  t.flops = 14 * static_cast<double>(count);
  t.bytes = 28 * static_cast<double>(count);
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  auto const add = [&](char const* name, std::int64_t count, bool starred, std::vector<int> threads, bool with_peer) {
    all.push_back({.name = name,
                   .shape = std::to_string(count / 1'000'000) + " M",
                   .starred = starred,
                   .threads = std::move(threads),
                   .prepare = [=](int n) { return prepare(count, n, with_peer); }});
  };
  add("AdamW", 5'000'000, true, {1}, true);
  add("AdamW", 50'000'000, false, {1, 2}, true);
  for (std::int64_t const count : {1'000'000, 4'000'000, 16'000'000, 64'000'000})
    add("growth AdamW", count, false, {1, 2}, false);
  return all;
}

bench::family const family{"5 update", list};

}  // namespace
