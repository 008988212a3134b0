// SPDX-License-Identifier: Apache-2.0
// Selection and exact cuts, against what memory allows, CUB and PyTorch.
#include <sara/select/concept.hpp>
#include <sara/tensor/traits.hpp>

#include <thrust/iterator/counting_iterator.h>
#include <cmath>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_select.cuh>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "harness/streams.cuh"
#include "peers/pytorch.hpp"

namespace {

template <class T>
struct work {
  bench::station& at;
  double density;
  sara::cuda::buffer<T> weights;
  sara::cuda::buffer<std::int64_t> positions = {};
  std::int64_t count = 0;
  float cut = 0;
  bench::scratch_folder folder = {};

  work(bench::station& s, std::int64_t size, double share)
      : at{s}, density{share}, weights{bench::uniform_on<T>(s, "weights", size)} {}

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(weights.size()); }
  [[nodiscard]] sara::scored_tensor<sara::magnitude> scored() const {
    return {sara::view(weights.data(), {size()}, sara::memory::cuda), {}};
  }
  /// Of weights uniform in [-1, 1).
  [[nodiscard]] float threshold() const { return sara::widen(sara::narrow<T>(static_cast<float>(density))); }
  [[nodiscard]] std::int64_t rank() const { return std::llround(density * static_cast<double>(size())); }

  void compact() {
    auto found = at.gpu().compact(scored(), {sara::order_key(double{threshold()}), 0});
    positions = std::move(found.positions);
    count = found.count;
  }
  void find_cut() {
    auto const all = scored();
    auto const found = at.gpu().order_statistic(std::span<sara::scored_tensor<sara::magnitude> const>{&all, 1}, rank());
    cut = static_cast<float>(sara::score_of_key(found.bound));
  }

  /// 0 if these are the positions.
  [[nodiscard]] double differs(std::vector<std::int64_t> const& peers) const {
    return bench::taken_from(at, positions) == peers ? 0 : 1;
  }
  void give_to_workers(nlohmann::json numbers) const {
    folder.write("weights", bench::taken_from(at, weights));
    numbers["dtype"] = sara::name_of(sara::dtype_of<T>);
    std::ofstream{folder.path() / "numbers.json"} << numbers;
  }
};

template <class T>
using shared_work = std::shared_ptr<work<T>>;

template <class T>
struct is_below {
  T const* weights;
  float threshold;
  SARA_HOST_DEVICE bool operator()(std::int64_t i) const {
    auto const w = sara::widen(weights[i]);
    return (w < 0 ? -w : w) < threshold;
  }
};

/// cub::DeviceSelect::If over counted positions. Its memory, room for all that may be selected, is allocated before the
/// clock runs; sara's is not.
template <class T>
bench::contender cub_select(shared_work<T> const& w) {
  struct found {
    sara::cuda::buffer<std::int64_t> positions, count;
    sara::cuda::buffer<std::byte> memory;
  };
  auto const select = [w](found& to, void* memory, std::size_t& bytes) {
    sara::cuda::check(cub::DeviceSelect::If(memory, bytes, thrust::counting_iterator<std::int64_t>{0},
                                            to.positions.data(), to.count.data(), w->size(),
                                            is_below<T>{w->weights.data(), w->threshold()}, w->at.stream()),
                      "cub::DeviceSelect::If");
  };
  auto const peer = std::make_shared<found>();
  peer->positions = w->at.gpu().template allocate<std::int64_t>(w->size());
  peer->count = w->at.gpu().template allocate<std::int64_t>(1);
  std::size_t needed = 0;
  select(*peer, nullptr, needed);
  peer->memory = w->at.gpu().template allocate<std::byte>(static_cast<std::int64_t>(needed) + 1);
  auto const held = static_cast<std::int64_t>(8 * peer->positions.size() + peer->memory.size());
  return bench::on_device(
      w->at, "cub::DeviceSelect::If", held,
      [=] {
        auto bytes = peer->memory.size();
        select(*peer, peer->memory.data(), bytes);
      },
      [=] {
        auto all = bench::taken_from(w->at, peer->positions);
        all.resize(static_cast<std::size_t>(bench::taken_from(w->at, peer->count)[0]));
        return w->differs(all);
      });
}

template <class T>
bench::contender nonzero(shared_work<T> const& w) {
  w->give_to_workers({{"threshold", w->threshold()}});
  auto const peer = bench::pytorch("nonzero", w->folder, "cuda");
  return bench::on_device("PyTorch abs, <, nonzero", peer, [=] {
    peer->save();
    return w->differs(w->folder.template read<std::int64_t>("result"));
  });
}

struct absolute {
  float const* from;
  float* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = from[i] < 0 ? -from[i] : from[i]; }
};

/// Magnitudes, sorted: what CUB has for an exact cut.
bench::contender radix_sort(shared_work<float> const& w) {
  struct sorting {
    sara::cuda::buffer<float> magnitudes, sorted;
    sara::cuda::buffer<std::byte> memory;
  };
  auto const sort = [w](sorting& s, void* memory, std::size_t& bytes) {
    // magnitudes are not negative: all bits but the sign
    sara::cuda::check(cub::DeviceRadixSort::SortKeys(memory, bytes, s.magnitudes.data(), s.sorted.data(), w->size(), 0,
                                                     31, w->at.stream()),
                      "cub::DeviceRadixSort::SortKeys");
  };
  auto const peer = std::make_shared<sorting>();
  peer->magnitudes = w->at.gpu().allocate<float>(w->size());
  peer->sorted = w->at.gpu().allocate<float>(w->size());
  std::size_t needed = 0;
  sort(*peer, nullptr, needed);
  peer->memory = w->at.gpu().allocate<std::byte>(static_cast<std::int64_t>(needed) + 1);
  auto const held = static_cast<std::int64_t>(8 * peer->sorted.size() + peer->memory.size());
  return bench::on_device(
      w->at, "cub::DeviceRadixSort", held,
      [=] {
        sara::for_each(w->at.gpu(), sara::all_positions{w->size()},
                       absolute{w->weights.data(), peer->magnitudes.data()});
        auto bytes = peer->memory.size();
        sort(*peer, peer->memory.data(), bytes);
      },
      [=] {
        float cut = 0;
        w->at.gpu().download(peer->sorted.data() + (w->rank() - 1), std::span{&cut, 1});
        return cut == w->cut ? 0.0 : 1.0;
      });
}

bench::contender kthvalue(shared_work<float> const& w) {
  w->give_to_workers({{"rank", w->rank()}});
  auto const peer = bench::pytorch("kthvalue", w->folder, "cuda");
  return bench::on_device("PyTorch abs, kthvalue", peer, [=] {
    peer->save();
    return w->folder.template read<float>("result").at(0) == w->cut ? 0.0 : 1.0;
  });
}

/// The goal: 80 % of the memory's bandwidth.
constexpr double near_bandwidth = 0.8;

template <class T>
bench::trial selection(std::int64_t size, double density, bool with_peers, bool with_pytorch) {
  auto const w = std::make_shared<work<T>>(bench::station_of(false), size, density);
  bench::trial t;
  t.sara = bench::on_device(w->at, "sara", 0, [w] { w->compact(); });
  if (with_peers) t.peers.push_back(cub_select(w));
  if (with_pytorch && bench::has_pytorch_on_cuda()) t.peers.push_back(nonzero(w));
  auto const read = size * static_cast<std::int64_t>(sizeof(T));
  t.limit = bench::one_read(w->at, "one read, positions written", w->weights.data(), read, 8 * w->rank());
  t.limit.goal = near_bandwidth;
  t.bytes = static_cast<double>(read + 8 * w->rank());
  return t;
}

bench::trial exact_cut(std::int64_t size, double density, bool with_peers, bool with_pytorch) {
  auto const w = std::make_shared<work<float>>(bench::station_of(false), size, density);
  bench::trial t;
  t.sara = bench::on_device(w->at, "sara", 0, [w] { w->find_cut(); });
  if (with_peers) t.peers.push_back(radix_sort(w));
  if (with_pytorch && bench::has_pytorch_on_cuda()) t.peers.push_back(kthvalue(w));
  t.limit = bench::one_read(w->at, "one read", w->weights.data(), 4 * size);
  t.bytes = 4 * static_cast<double>(size);
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  auto const add = [&](char const* name, std::int64_t size, double density, char const* dtype, bool starred,
                       std::function<bench::trial(int)> prepare) {
    all.push_back({.name = name,
                   .shape = std::to_string(size / 1'000'000) + " M",
                   .density = density,
                   .dtype = dtype,
                   .starred = starred,
                   .prepare = std::move(prepare)});
  };
  for (std::int64_t const size : {20'000'000, 100'000'000})
    for (double const density : bench::densities) {
      bool const large = size == 100'000'000, middle = density == 0.058;
      add("selection", size, density, "float32", large,
          [=](int) { return selection<float>(size, density, true, large && middle); });
      if (middle)
        add("selection", size, density, "bfloat16", large,
            [=](int) { return selection<sara::bfloat16>(size, density, true, false); });
      add("exact cut", size, density, "float32", large && middle,
          [=](int) { return exact_cut(size, density, true, large && middle); });
    }
  for (std::int64_t const size : {1'000'000, 4'000'000, 16'000'000, 64'000'000, 256'000'000, 1'024'000'000}) {
    add("growth selection", size, 0.058, "float32", false,
        [=](int) { return selection<float>(size, 0.058, false, false); });
    add("growth exact cut", size, 0.058, "float32", false, [=](int) { return exact_cut(size, 0.058, false, false); });
  }
  return all;
}

bench::family const family{"3 selection", list};

}  // namespace
