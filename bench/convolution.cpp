// SPDX-License-Identifier: Apache-2.0
// The gradient of a convolution's weight at its selected entries, against oneDNN's dense one and a gather.
#include <sara/backprop/conv2d.hpp>
#include <sara/tensor/traits.hpp>

#include <memory>

#include "harness/case.hpp"
#include "harness/inputs.hpp"
#include "peers/onednn.hpp"

namespace {

using bench::convolution_size;

struct work {
  convolution_size size;
  sara::host backend;
  std::vector<float> dy = bench::uniform("dy", size.batch* size.out* size.side* size.side);
  std::vector<float> x = bench::uniform("x", size.batch* size.in* size.side* size.side);
  bench::default_store store;
  sara::host::sampling_plan plan = backend.plan_sampling(store.ref());
  std::vector<float> gradient;

  work(convolution_size const& s, double density, int threads)
      : size{s},
        backend{threads},
        store{bench::random_store(backend, {s.out, s.in * s.kernel * s.kernel}, density)},
        gradient(static_cast<std::size_t>(store.count())) {}

  void accumulate() {
    auto const pad = size.padding();
    sara::accumulate_conv2d(backend, {size.out, size.in, size.kernel, size.kernel},
                            sara::view(dy.data(), {size.batch, size.out, size.side, size.side}),
                            sara::view(x.data(), {size.batch, size.in, size.side, size.side}), {.padding = {pad, pad}},
                            store.ref(), plan, gradient.data());
  }
};

bench::trial prepare(convolution_size const& size, double density, int threads) {
  auto const w = std::make_shared<work>(size, density, threads);
  auto const peer = std::make_shared<bench::onednn_convolution>(size, w->dy.data(), w->x.data(),
                                                                bench::as_index(w->backend, w->store), threads);
  auto const count = static_cast<double>(w->store.count());
  auto const pixels = static_cast<double>(size.batch * size.side * size.side);
  bench::trial t;
  t.sara = {"sara", bench::timed([w] { w->accumulate(); }), w->store.bytes() + w->plan.bytes() + 4 * w->store.count()};
  t.peers.push_back({"oneDNN blocked + gather", bench::timed([=] { peer->run(); }), peer->bytes(),
                     [=] { return bench::relative_difference(w->gradient, peer->gradient()); }});
  t.flops = 2 * count * pixels;
  t.bytes = 4 * pixels * static_cast<double>(size.out + size.in) + 12 * count;
  return t;
}

bench::benchmark sampled(char const* name, convolution_size const& size, double density, bool starred,
                         std::vector<int> threads = {1}) {
  return {.name = name + std::to_string(size.kernel) + "x" + std::to_string(size.kernel),
          .shape = std::to_string(size.in) + "->" + std::to_string(size.out) + " " + bench::by(size.side, size.side) +
                   " B" + std::to_string(size.batch),
          .density = density,
          .starred = starred,
          .threads = std::move(threads),
          .prepare = [=](int n) { return prepare(size, density, n); }};
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  for (std::int64_t const kernel : {3, 1}) {
    for (double const density : bench::densities)
      all.push_back(sampled("convolution ", {4, 320, 320, 32, kernel}, density, true));
    for (double const density : {0.4, 0.5, 0.6, 0.7, 1.0})
      all.push_back(sampled("convolution ", {4, 320, 320, 32, kernel}, density, false));
  }
  // Layers of the example's UNet: level 1, level 2 and its way up, with the batch that it trains with.
  for (auto const& size :
       {convolution_size{32, 64, 64, 16, 3}, {32, 128, 128, 8, 3}, {32, 256, 128, 8, 3}, {32, 128, 384, 8, 1}})
    for (double const density : bench::densities) all.push_back(sampled("convolution ", size, density, false));
  for (std::int64_t const channels : {32, 64, 128, 256, 512})
    all.push_back(sampled("growth convolution ", {4, channels, channels, 32, 3}, 0.058, false, {1, 2}));
  return all;
}

bench::family const family{"2 convolution", list};

}  // namespace
