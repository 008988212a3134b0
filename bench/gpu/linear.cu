// SPDX-License-Identifier: Apache-2.0
// The gradient of a Linear layer's weight at its selected entries, against cuBLAS's dense gradient alone and with a
// boolean gather, cuSPARSE's sampled product, and PyTorch.
#include <sara/backprop/linear.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/traits.hpp>

#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <type_traits>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "peers/cublas.cuh"
#include "peers/cusparse.cuh"
#include "peers/pytorch.hpp"

namespace {

using sara::cuda::device;

struct layer {
  std::int64_t out, in, tokens;
};

/// What one measurement works on.
template <class T>
struct work {
  bench::station& at;
  layer size;
  sara::cuda::buffer<T> dy, x;
  std::vector<std::int64_t> positions;
  sara::row_index<device> store;
  device::sampling_plan plan;
  sara::cuda::buffer<float> gradient;
  bench::scratch_folder folder = {};

  work(bench::station& s, layer l, double density)
      : at{s},
        size{l},
        dy{bench::uniform_on<T>(s, "dy", l.tokens * l.out)},
        x{bench::uniform_on<T>(s, "x", l.tokens * l.in)},
        positions{bench::random_positions("positions", l.out * l.in, density)},
        store{s.gpu(), {l.out, l.in}, bench::placed_on(s, positions).data(), std::ssize(positions)},
        plan{s.gpu().plan_sampling(store.ref())},
        gradient{s.gpu().allocate<float>(store.count())} {}

  void accumulate() {
    sara::accumulate_linear(at.gpu(), sara::view(dy.data(), {size.tokens, size.out}, sara::memory::cuda),
                            sara::view(x.data(), {size.tokens, size.in}, sara::memory::cuda), store.ref(), plan,
                            gradient.data());
  }
  [[nodiscard]] std::int64_t bytes() const { return store.bytes() + plan.bytes() + 4 * store.count(); }
  [[nodiscard]] double difference(std::vector<float> const& of_peer) const {
    return bench::relative_difference(bench::taken_from(at, gradient), of_peer);
  }
};
template <class T>
using shared_work = std::shared_ptr<work<T>>;

/// How far a product may be from another: sums of float32 in another order; inputs rounded to ten bits or, on tensor
/// cores, sums that are cut off sooner.
template <class T>
double tolerance(bool tf32) {
  return tf32 ? 5e-3 : std::is_same_v<T, float> ? 5e-5 : 1e-3;
}

/// The goal: at most 1.05 times the dense product alone.
constexpr double as_fast_as_dense = 1 / 1.05;

template <class T>
void add_dense(bench::trial& t, shared_work<T> const& w) {
  struct dense {
    sara::cuda::buffer<float> dw;
    bench::masked_gather gather;
  };
  auto const& s = w->size;
  auto const d = std::make_shared<dense>(
      dense{w->at.gpu().template allocate<float>(s.out * s.in), {w->at, w->positions, s.out * s.in}});
  auto const product = [w, d] {
    bench::multiply(w->at, {w->size.out, w->size.in, w->size.tokens},
                    bench::factor::of(w->dy.data(), w->size.out, true), bench::factor::of(w->x.data(), w->size.in),
                    d->dw.data());
  };
  auto const difference = [w, d] { return w->difference(d->gather.taken()); };
  auto alone = bench::on_device(w->at, "cuBLAS dense alone", static_cast<std::int64_t>(4 * d->dw.size()), product, [=] {
    d->gather.take(d->dw.data());
    return difference();
  });
  alone.goal = as_fast_as_dense;
  t.peers.push_back(alone);
  t.peers.push_back(bench::on_device(
      w->at, "cuBLAS + boolean gather", static_cast<std::int64_t>(4 * d->dw.size()) + d->gather.bytes(),
      [=] {
        product();
        d->gather.take(d->dw.data());
      },
      difference));
}

template <class T>
void add_sddmm(bench::trial& t, shared_work<T> const& w) {
  try {
    auto const& s = w->size;
    auto const peer =
        std::make_shared<bench::sddmm<T>>(w->at, s.out, s.in, s.tokens, w->positions, w->dy.data(), w->x.data());
    t.peers.push_back(bench::on_device(
        w->at, "cuSPARSE SDDMM", peer->bytes(), [peer] { peer->run(); },
        [=] { return w->difference(peer->gradient()); }));
  } catch (sara::cuda::error const& error) {
    static std::set<std::string> said;
    if (said.insert(error.what()).second)
      std::fprintf(stderr, "cuSPARSE's rows in %s are left out: %s\n", sara::name_of(sara::dtype_of<T>), error.what());
  }
}

/// (dY.T @ X)[mask], as the published code leaves it to autograd.
template <class T>
void add_pytorch(bench::trial& t, shared_work<T> const& w) {
  auto const& s = w->size;
  w->folder.write("dy", bench::taken_from(w->at, w->dy));
  w->folder.write("x", bench::taken_from(w->at, w->x));
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(s.out * s.in));
  for (auto const p : w->positions) mask[static_cast<std::size_t>(p)] = 1;
  w->folder.write("mask", mask);
  std::ofstream{w->folder.path() / "numbers.json"} << nlohmann::json{
      {"dtype", bench::dtype_name<T>(w->at.tf32())}, {"tokens", s.tokens}, {"out", s.out}, {"in", s.in}};
  auto const peer = bench::pytorch("linear", w->folder, "cuda");
  auto contender = bench::on_device("PyTorch (dY.T @ X)[mask]", peer, [=] {
    peer->save();
    return w->difference(w->folder.template read<float>("result"));
  });
  // its gradient has the inputs' dtype
  if (!std::is_same_v<T, float>) contender.tolerance = 1e-2;
  t.peers.push_back(contender);
}

template <class T>
bench::trial prepare(layer size, double density, bool tf32, bool with_pytorch) {
  auto const w = std::make_shared<work<T>>(bench::station_of(tf32), size, density);
  bench::trial t;
  t.tolerance = tolerance<T>(tf32);
  t.sara = bench::on_device(w->at, "sara", w->bytes(), [w] { w->accumulate(); });
  add_dense(t, w);
  if (!tf32) add_sddmm(t, w);
  if (with_pytorch && bench::has_pytorch_on_cuda()) add_pytorch(t, w);
  auto const count = static_cast<double>(w->store.count());
  t.flops = 2 * count * static_cast<double>(size.tokens);
  t.bytes = sizeof(T) * static_cast<double>(size.tokens * (size.out + size.in)) + 12 * count;
  t.goal_bytes = w->bytes() + sara::cuda::detail::panel_bytes;  // of the positions, and one panel
  return t;
}

std::string shape_text(layer size) { return bench::by(size.out, size.in) + " B" + std::to_string(size.tokens); }

template <class T>
bench::benchmark sampled(layer size, double density, bool starred, bool with_pytorch = false, bool tf32 = false,
                         char const* name = "linear") {
  return {.name = name,
          .shape = shape_text(size),
          .density = density,
          .dtype = bench::dtype_name<T>(tf32),
          .starred = starred,
          .prepare = [=](int) { return prepare<T>(size, density, tf32, with_pytorch); }};
}

/// One dot product an entry against panels of the dense product: where the ratio passes 1 is the density to change
/// over at (`dense_density` in sara/cuda/executor.cuh).
template <class T>
bench::benchmark crossover(layer size, double density, bool starred, bool tf32 = false) {
  return {.name = "linear by dots",
          .shape = shape_text(size),
          .density = density,
          .dtype = bench::dtype_name<T>(tf32),
          .starred = starred,
          .prepare = [=](int) {
            using namespace sara::cuda::detail;
            auto const w = std::make_shared<work<T>>(bench::station_of(tf32), size, density);
            auto const other =
                std::make_shared<sara::cuda::buffer<float>>(w->at.gpu().template allocate<float>(w->store.count()));
            auto const matrix = [](char const* what, sara::cuda::buffer<T> const& b, std::int64_t tokens,
                                   std::int64_t width) {
              return sara::detail::as_matrix(what, sara::view(b.data(), {tokens, width}, sara::memory::cuda));
            };
            auto const dy = matrix("dY", w->dy, size.tokens, size.out);
            auto const x = matrix("X", w->x, size.tokens, size.in);
            bench::device_parts const gpu{w->at.gpu()};
            bench::trial t;
            t.tolerance = tolerance<T>(tf32);
            t.sara = bench::on_device(w->at, "sara", w->bytes(),
                                      [=] { dot_product(gpu.machine(), dy, x, w->store.ref(), w->gradient.data()); });
            t.peers.push_back(bench::on_device(
                w->at, "sara by panels", w->bytes(),
                [=] { panel_product(gpu.machine(), dy, x, w->store.ref(), w->plan, other->data()); },
                [=] { return w->difference(bench::taken_from(w->at, *other)); }));
            t.flops = 2 * static_cast<double>(w->store.count()) * static_cast<double>(size.tokens);
            return t;
          }};
}

std::vector<bench::benchmark> list() {
  using sara::bfloat16, sara::float16;
  std::vector<bench::benchmark> all;
  constexpr std::pair<int, int> sides[] = {{320, 320}, {640, 640}, {1280, 1280}, {1280, 5120}, {5120, 5120}};
  for (auto const& [out, in] : sides)
    for (double const density : bench::densities) {
      bool const middle = out == 1280 && in == 1280;
      bool const starred = middle || density == 0.058;
      all.push_back(sampled<float>({out, in, 4096}, density, starred, middle && density == 0.058));
      if (middle || density == 0.058) {
        all.push_back(sampled<bfloat16>({out, in, 4096}, density, middle, middle && density == 0.058));
        all.push_back(sampled<float>({out, in, 4096}, density, false, false, true));
      }
      if (middle) all.push_back(sampled<float16>({out, in, 4096}, density, false));
    }
  for (std::int64_t const tokens : {1024, 16'384, 65'536})
    for (auto const& [out, in] : sides) {
      if (out == 640) continue;
      bool const starred = out == 1280 && in == 1280 && tokens == 65'536;
      all.push_back(sampled<float>({out, in, tokens}, 0.058, false));
      all.push_back(sampled<bfloat16>({out, in, tokens}, 0.058, starred));
    }
  for (double const density : {0.001, 0.003, 0.006, 0.01, 0.023, 0.058})
    for (std::int64_t const side : {320, 1280}) {
      all.push_back(crossover<float>({side, side, 4096}, density, side == 1280 && density == 0.023));
      if (side == 320) continue;
      all.push_back(crossover<bfloat16>({side, side, 4096}, density, false));
      all.push_back(crossover<float>({side, side, 4096}, density, false, true));
    }
  for (std::int64_t const side : {320, 640, 1280, 2560, 5120})
    all.push_back(sampled<bfloat16>({side, side, 4096}, 0.058, false, false, false, "growth linear"));
  return all;
}

bench::family const family{"1 linear", list};

}  // namespace
