// SPDX-License-Identifier: Apache-2.0
// The gradient of a Linear layer's weight at its selected entries, against the dense gradient and a gather.
#include <sara/backprop/linear.hpp>
#include <sara/tensor/traits.hpp>

#include <memory>
#include <type_traits>

#include "harness/case.hpp"
#include "harness/inputs.hpp"
#include "peers/onednn.hpp"
#include "peers/openblas.hpp"

namespace {

struct layer {
  std::int64_t out, in, batch;
};

/// What one measurement works on.
template <class T>
struct work {
  layer size;
  sara::host backend;
  std::vector<T> dy = bench::uniform<T>("dy", size.batch* size.out);
  std::vector<T> x = bench::uniform<T>("x", size.batch* size.in);
  bench::default_store store;
  sara::host::sampling_plan plan = backend.plan_sampling(store.ref());
  std::vector<float> gradient;

  work(layer s, double density, int threads)
      : size{s},
        backend{threads},
        store{bench::random_store(backend, {s.out, s.in}, density)},
        gradient(static_cast<std::size_t>(store.count())) {}

  void accumulate() {
    sara::accumulate_linear(backend, sara::view(dy.data(), {size.batch, size.out}),
                            sara::view(x.data(), {size.batch, size.in}), store.ref(), plan, gradient.data());
  }
};

template <class Peer, class T>
bench::contender dense_peer(char const* name, std::shared_ptr<work<T>> const& w, int threads) {
  auto const peer =
      std::make_shared<Peer>(w->size.batch, w->size.out, w->size.in, bench::as_index(w->backend, w->store), threads);
  return {name, bench::timed([=] { peer->run(w->dy.data(), w->x.data()); }), peer->bytes(),
          [=] { return bench::relative_difference(w->gradient, peer->gradient()); }};
}

template <class T>
bench::trial prepare(layer size, double density, int threads) {
  auto const w = std::make_shared<work<T>>(size, density, threads);
  auto const count = static_cast<double>(w->store.count());
  bench::trial t;
  t.sara = {"sara", bench::timed([w] { w->accumulate(); }), w->store.bytes() + w->plan.bytes() + 4 * w->store.count()};
  if constexpr (std::is_same_v<T, float>)
    t.peers.push_back(dense_peer<bench::openblas_linear>("OpenBLAS + gather", w, threads));
  t.peers.push_back(dense_peer<bench::onednn_linear<T>>("oneDNN + gather", w, threads));
  t.flops = 2 * count * static_cast<double>(size.batch);
  t.bytes = sizeof(T) * static_cast<double>(size.batch * (size.out + size.in)) + 12 * count;
  return t;
}

template <class T = float>
bench::benchmark sampled(std::string name, layer size, double density, bool starred, std::vector<int> threads = {1}) {
  return {.name = std::move(name),
          .shape = bench::by(size.out, size.in) + " B" + std::to_string(size.batch),
          .density = density,
          .dtype = std::is_same_v<T, float> ? "float32" : "bfloat16",
          .starred = starred,
          .threads = std::move(threads),
          .prepare = [=](int n) { return prepare<T>(size, density, n); }};
}

/// The plan alone, made once a selection: against the product that it serves.
bench::benchmark plan(layer size, double density) {
  return {
      .name = "linear plan", .shape = bench::by(size.out, size.in), .density = density, .prepare = [=](int threads) {
        auto const w = std::make_shared<work<float>>(size, density, threads);
        bench::trial t;
        t.sara = {"sara", bench::timed([w] { w->plan = w->backend.plan_sampling(w->store.ref()); })};
        t.peers.push_back({"one sampled product", bench::timed([w] { w->accumulate(); }), w->store.bytes()});
        t.bytes = static_cast<double>(w->store.bytes() + w->plan.bytes());
        return t;
      }};
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  for (std::int64_t const batch : {256, 1024, 4096})
    for (auto const& [out, in] : {std::pair{320, 320}, {640, 640}, {1280, 1280}, {1280, 5120}}) {
      for (double const density : bench::densities)
        all.push_back(sampled("linear", {out, in, batch}, density, batch == 1024 && in <= 1280));
      if (batch == 1024)
        for (double const density : {0.4, 0.5, 0.55, 0.6, 0.7, 1.0})
          all.push_back(sampled("linear", {out, in, batch}, density, out == 1280 && in == 1280 && density == 0.6));
    }
  for (double const density : bench::densities)
    all.push_back(sampled<sara::bfloat16>("linear", {1280, 1280, 1024}, density, false));
  for (double const density : bench::densities) all.push_back(plan({1280, 1280, 1024}, density));
  for (std::int64_t const side : {80, 160, 320, 640, 1280, 2560})
    all.push_back(sampled("growth linear", {side, side, 1024}, 0.058, false, {1, 2}));
  return all;
}

bench::family const family{"1 linear", list};

}  // namespace
