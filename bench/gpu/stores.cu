// SPDX-License-Identifier: Apache-2.0
// Stores of positions: their memory, gather and scatter, against boolean masks and 64-bit indices.
#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/store/bitmask.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/traits.hpp>

#include <thrust/execution_policy.h>
#include <thrust/gather.h>
#include <thrust/scatter.h>
#include <algorithm>
#include <fstream>
#include <memory>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "harness/streams.cuh"
#include "peers/cublas.cuh"
#include "peers/pytorch.hpp"

namespace {

using sara::cuda::device;

constexpr std::int64_t columns = 4096;

template <template <class> class Store>
struct work {
  bench::station& at;
  std::int64_t rows;
  std::vector<std::int64_t> positions;
  sara::cuda::buffer<float> weights;
  sara::cuda::buffer<std::int64_t> index;
  Store<device> store;
  sara::cuda::buffer<float> values;
  bench::scratch_folder folder = {};

  work(bench::station& s, std::int64_t size, double density)
      : at{s},
        rows{size / columns},
        positions{bench::random_positions("positions", rows * columns, density)},
        weights{bench::uniform_on<float>(s, "weights", rows * columns)},
        index{bench::placed_on(s, positions)},
        store{s.gpu(), {rows, columns}, index.data(), std::ssize(positions)},
        values{bench::uniform_on<float>(s, "values", store.count())} {}

  [[nodiscard]] std::int64_t size() const { return rows * columns; }
  void gather() {
    sara::gather(at.gpu(), sara::view(std::as_const(weights).data(), {rows, columns}, sara::memory::cuda), store.ref(),
                 values.data());
  }
  void scatter() {
    sara::scatter(at.gpu(), values.data(), store.ref(),
                  sara::view(weights.data(), {rows, columns}, sara::memory::cuda));
  }
  void give_to_workers() const {
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(size()));
    for (auto const p : positions) mask[static_cast<std::size_t>(p)] = 1;
    folder.write("mask", mask);
    folder.write("weights", bench::taken_from(at, weights));
    folder.write("values", bench::taken_from(at, values));
    std::ofstream{folder.path() / "numbers.json"} << "{}";
  }
};

template <class Work>
void add_gathers(bench::trial& t, std::shared_ptr<Work> const& w, bool with_pytorch) {
  auto const& at = w->at;
  auto const mask = std::make_shared<bench::masked_gather>(w->at, w->positions, w->size());
  t.peers.push_back(bench::on_device(
      w->at, "cub::DeviceSelect::Flagged", mask->bytes(), [=] { mask->take(w->weights.data()); },
      [=] { return bench::relative_difference(bench::taken_from(w->at, w->values), mask->taken()); }));
  auto const taken = std::make_shared<sara::cuda::buffer<float>>(at.gpu().template allocate<float>(w->store.count()));
  t.peers.push_back(bench::on_device(
      w->at, "thrust::gather, 64-bit index", static_cast<std::int64_t>(12 * taken->size()),
      [=] {
        thrust::gather(thrust::cuda::par_nosync.on(w->at.stream()), w->index.data(), w->index.data() + w->index.size(),
                       w->weights.data(), taken->data());
      },
      [=] {
        return bench::relative_difference(bench::taken_from(w->at, w->values), bench::taken_from(w->at, *taken));
      }));
  if (!with_pytorch || !bench::has_pytorch_on_cuda()) return;
  w->give_to_workers();
  auto const peer = bench::pytorch("masked_select", w->folder, "cuda");
  t.peers.push_back(bench::on_device("PyTorch masked_select", peer, [=] {
    peer->save();
    return bench::relative_difference(bench::taken_from(w->at, w->values), w->folder.template read<float>("result"));
  }));
}

template <class Work>
void add_scatters(bench::trial& t, std::shared_ptr<Work> const& w, bool with_pytorch) {
  auto const changed =
      std::make_shared<sara::cuda::buffer<float>>(bench::uniform_on<float>(w->at, "weights", w->size()));
  t.peers.push_back(bench::on_device(
      w->at, "thrust::scatter, 64-bit index", static_cast<std::int64_t>(8 * w->index.size() + 4 * w->values.size()),
      [=] {
        thrust::scatter(thrust::cuda::par_nosync.on(w->at.stream()), w->values.data(),
                        w->values.data() + w->values.size(), w->index.data(), changed->data());
      },
      [=] {
        return bench::relative_difference(bench::taken_from(w->at, w->weights), bench::taken_from(w->at, *changed));
      }));
  if (!with_pytorch || !bench::has_pytorch_on_cuda()) return;
  w->give_to_workers();
  auto const peer = bench::pytorch("masked_assign", w->folder, "cuda");
  t.peers.push_back(bench::on_device("PyTorch w[mask] = p", peer, [=] {
    peer->save();
    return bench::relative_difference(bench::taken_from(w->at, w->weights), w->folder.template read<float>("result"));
  }));
}

enum class direction { gather, scatter };

template <template <class> class Store>
bench::trial prepare(direction way, std::int64_t size, double density, bool with_peers, bool with_pytorch) {
  auto const w = std::make_shared<work<Store>>(bench::station_of(false), size, density);
  auto const held = w->store.bytes() + 4 * w->store.count();
  bench::trial t;
  if (way == direction::gather) {
    t.sara = bench::on_device(w->at, "sara", held, [w] { w->gather(); });
    if (with_peers) add_gathers(t, w, with_pytorch);
  } else {
    t.sara = bench::on_device(w->at, "sara", held, [w] { w->scatter(); });
    if (with_peers) add_scatters(t, w, with_pytorch);
  }
  t.peers.push_back(bench::one_read(w->at, "one read", w->weights.data(), 4 * w->size()));
  // The sectors of memory that hold selected weights, written back after a scatter; positions and values.
  auto const sectors = std::min(4 * w->size(), 32 * w->store.count());
  t.bytes = static_cast<double>((way == direction::scatter ? 2 : 1) * sectors + held);
  return t;
}

template <template <class> class Store>
void add_store(std::vector<bench::benchmark>& all, char const* name, bool is_default) {
  for (auto const way : {direction::gather, direction::scatter}) {
    std::string const verb = way == direction::gather ? "gather " : "scatter ";
    auto const add = [&](std::string title, std::int64_t size, double density, bool starred, bool with_peers,
                         bool with_pytorch) {
      all.push_back({.name = std::move(title),
                     .shape = std::to_string(size / 1'000'000) + " M",
                     .density = density,
                     .starred = starred,
                     .prepare = [=](int) { return prepare<Store>(way, size, density, with_peers, with_pytorch); }});
    };
    for (double const density : bench::densities)
      add(verb + name, 25'000 * columns, density, density == 0.058, true, is_default && density == 0.058);
    if (is_default)
      for (std::int64_t const rows : {250, 1000, 4000, 16'000, 64'000})
        add("growth " + verb + name, rows * columns, 0.058, false, false, false);
  }
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  add_store<sara::row_index>(all, "row_index", true);
  add_store<sara::flat_index>(all, "flat_index", false);
  add_store<sara::bitmask>(all, "bitmask", false);
  return all;
}

bench::family const family{"4 stores", list};

}  // namespace
