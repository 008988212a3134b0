// SPDX-License-Identifier: Apache-2.0
// Stores of positions: their memory, gather and scatter, against boolean masks.
#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/store/bitmask.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/traits.hpp>

#include <algorithm>
#include <memory>

#include "harness/case.hpp"
#include "harness/inputs.hpp"
#include "harness/process.hpp"
#include "harness/streams.hpp"

namespace {

constexpr std::int64_t columns = 4096;

template <template <class> class Store>
struct work {
  sara::host backend;
  std::int64_t rows;
  std::vector<float> weights = bench::uniform("weights", rows* columns);
  std::vector<std::uint8_t> mask = std::vector<std::uint8_t>(weights.size());  // filled while the store is made
  Store<sara::host> store;
  std::vector<float> values;
  bench::scratch_folder folder = {};

  work(std::int64_t size, double density, int threads)
      : backend{threads},
        rows{size / columns},
        store{make_store(density)},
        values{bench::uniform("values", store.count())} {}

  [[nodiscard]] Store<sara::host> make_store(double density) {
    auto const positions = bench::random_positions("positions", rows * columns, density);
    for (auto const p : positions) mask[static_cast<std::size_t>(p)] = 1;
    return {backend, {rows, columns}, positions.data(), std::ssize(positions)};
  }

  void gather() {
    sara::gather(backend, sara::view(std::as_const(weights).data(), {rows, columns}), store.ref(), values.data());
  }
  void scatter() { sara::scatter(backend, values.data(), store.ref(), sara::view(weights.data(), {rows, columns})); }

  [[nodiscard]] bench::contender pytorch_gather(int threads) {
    folder.write("weights", weights);
    folder.write("mask", mask);
    auto const peer = bench::pytorch("masked_select", folder, threads);
    return {"PyTorch masked_select", [=] { return peer->run(); }, std::ssize(mask),
            [=, this] {
              peer->save();
              return bench::relative_difference(values, folder.read<float>("result"));
            }};
  }
  [[nodiscard]] bench::contender pytorch_scatter(int threads) {
    folder.write("weights", weights);
    folder.write("mask", mask);
    folder.write("values", values);
    auto const peer = bench::pytorch("masked_assign", folder, threads);
    return {"PyTorch w[mask] = p", [=] { return peer->run(); }, std::ssize(mask),
            [=, this] {
              peer->save();
              return bench::relative_difference(weights, folder.read<float>("result"));
            }};
  }
};

enum class direction { gather, scatter };

template <template <class> class Store>
bench::trial prepare(direction way, std::int64_t size, double density, int threads, bool with_peer) {
  auto const w = std::make_shared<work<Store>>(size, density, threads);
  bench::trial t;
  // The peer starts from the same inputs; it keeps a plain pointer, and the work lives in sara's function object.
  if (way == direction::gather) {
    if (with_peer) t.peers.push_back(w->pytorch_gather(threads));
    t.sara = {"sara", bench::timed([w] { w->gather(); }), w->store.bytes()};
  } else {
    if (with_peer) t.peers.push_back(w->pytorch_scatter(threads));
    t.sara = {"sara", bench::timed([w] { w->scatter(); }), w->store.bytes()};
  }
  t.peers.push_back(bench::one_read(w->backend, std::span<float const>{w->weights}));
  // The lines of memory that hold selected weights, written back after a scatter; positions and values.
  auto const lines = std::min(4 * std::ssize(w->weights), 64 * w->store.count());
  t.bytes = static_cast<double>((way == direction::scatter ? 2 : 1) * lines + w->store.bytes() + 4 * w->store.count());
  return t;
}

template <template <class> class Store>
void add_store(std::vector<bench::benchmark>& all, char const* name, bool starred) {
  for (auto const way : {direction::gather, direction::scatter}) {
    std::string const verb = way == direction::gather ? "gather " : "scatter ";
    auto const add = [&](std::string title, std::int64_t size, double density, bool star, std::vector<int> threads,
                         bool with_peer) {
      all.push_back({.name = std::move(title),
                     .shape = std::to_string(size / 1'000'000) + " M",
                     .density = density,
                     .starred = star,
                     .threads = std::move(threads),
                     .prepare = [=](int n) { return prepare<Store>(way, size, density, n, with_peer); }});
    };
    add(verb + name, 20'000 * columns / 4, 0.058, starred, {1}, true);
    for (double const density : bench::densities) add(verb + name, 25'000 * columns, density, false, {1}, true);
    if (starred)
      for (std::int64_t const rows : {250, 1000, 4000, 16'000, 64'000})
        add("growth " + verb + name, rows * columns, 0.058, false, {1, 2}, false);
  }
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  add_store<sara::flat_index>(all, "flat_index", true);
  add_store<sara::row_index>(all, "row_index", false);
  add_store<sara::bitmask>(all, "bitmask", false);
  return all;
}

bench::family const family{"4 stores", list};

}  // namespace
