// SPDX-License-Identifier: Apache-2.0
// The gradient of a convolution's weight at its selected entries, against cuBLAS's product of a ready im2col, and
// PyTorch's dense gradient (cuDNN) and a gather.
#include <sara/backprop/conv2d.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/traits.hpp>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "peers/cublas.cuh"
#include "peers/im2col.hpp"
#include "peers/pytorch.hpp"

namespace {

using bench::square_convolution;
using sara::cuda::device;

template <class T>
struct work {
  bench::station& at;
  square_convolution size;
  sara::cuda::buffer<T> dy, x;
  std::vector<std::int64_t> positions;
  sara::row_index<device> store;
  device::sampling_plan plan;
  sara::cuda::buffer<float> gradient;
  bench::scratch_folder folder = {};

  work(bench::station& s, square_convolution c, double density)
      : at{s},
        size{c},
        dy{bench::uniform_on<T>(s, "dy", c.batch * c.out * c.pixels())},
        x{bench::uniform_on<T>(s, "x", c.batch * c.in * c.pixels())},
        positions{bench::random_positions("positions", c.out * c.cols(), density)},
        store{s.gpu(), {c.out, c.cols()}, bench::placed_on(s, positions).data(), std::ssize(positions)},
        plan{s.gpu().plan_sampling(store.ref())},
        gradient{s.gpu().allocate<float>(store.count())} {}

  void accumulate() {
    auto const& c = size;
    sara::accumulate_conv2d(at.gpu(), {c.out, c.in, c.kernel, c.kernel},
                            sara::view(dy.data(), {c.batch, c.out, c.side, c.side}, sara::memory::cuda),
                            sara::view(x.data(), {c.batch, c.in, c.side, c.side}, sara::memory::cuda),
                            {.padding = {c.padding(), c.padding()}}, store.ref(), plan, gradient.data());
  }
  [[nodiscard]] double difference(std::vector<float> const& of_peer) const {
    return bench::relative_difference(bench::taken_from(at, gradient), of_peer);
  }
};
template <class T>
using shared_work = std::shared_ptr<work<T>>;

/// The dense gradient as one product of matrices that lie ready, and so the least that a dense way takes; and the
/// entries that a boolean mask takes.
template <class T>
void add_dense(bench::trial& t, shared_work<T> const& w) {
  struct dense {
    sara::cuda::buffer<T> columns, output;
    sara::cuda::buffer<float> dw;
    bench::masked_gather gather;
  };
  auto const& gpu = w->at.gpu();
  auto const& c = w->size;
  auto const along = c.along();
  auto const d = std::make_shared<dense>(dense{gpu.template allocate<T>(c.cols() * along),
                                               gpu.template allocate<T>(c.out * along),
                                               gpu.template allocate<float>(c.out * c.cols()),
                                               {w->at, w->positions, c.out * c.cols()}});
  sara::for_each(gpu, sara::all_positions{c.cols() * along}, bench::copy_tap<T>{c, w->x.data(), d->columns.data()});
  sara::for_each(gpu, sara::all_positions{c.out * along}, bench::copy_channel<T>{c, w->dy.data(), d->output.data()});
  auto const held = static_cast<std::int64_t>(4 * d->dw.size() + sizeof(T) * (d->columns.size() + d->output.size()));
  t.peers.push_back(bench::on_device(
      w->at, "cuBLAS, ready im2col, + gather", held + d->gather.bytes(),
      [w, d, along] {
        auto const& s = w->size;
        bench::multiply(w->at, {s.out, s.cols(), along}, bench::factor::of(d->output.data(), along),
                        bench::factor::of(d->columns.data(), along, true), d->dw.data());
        d->gather.take(d->dw.data());
      },
      [w, d] { return w->difference(d->gather.taken()); }));
}

template <class T>
void add_pytorch(bench::trial& t, shared_work<T> const& w) {
  auto const& c = w->size;
  w->folder.write("dy", bench::taken_from(w->at, w->dy));
  w->folder.write("x", bench::taken_from(w->at, w->x));
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(c.out * c.cols()));
  for (auto const p : w->positions) mask[static_cast<std::size_t>(p)] = 1;
  w->folder.write("mask", mask);
  std::ofstream{w->folder.path() / "numbers.json"} << nlohmann::json{{"dtype", bench::dtype_name<T>(w->at.tf32())},
                                                                     {"batch", c.batch},
                                                                     {"out", c.out},
                                                                     {"in", c.in},
                                                                     {"side", c.side},
                                                                     {"kernel", c.kernel}};
  auto const peer = bench::pytorch("convolution", w->folder, "cuda");
  auto contender = bench::on_device("PyTorch conv backward, [mask]", peer, [=] {
    peer->save();
    return w->difference(w->folder.template read<float>("result"));
  });
  // cuDNN may take the Winograd transform, and its gradient has the inputs' dtype
  contender.tolerance = std::is_same_v<T, float> ? 1e-3 : 1e-2;
  t.peers.push_back(contender);
}

template <class T>
bench::trial prepare(square_convolution size, double density, bool tf32, bool with_pytorch) {
  auto const w = std::make_shared<work<T>>(bench::station_of(tf32), size, density);
  bench::trial t;
  t.tolerance = tf32 ? 5e-3 : std::is_same_v<T, float> ? 5e-5 : 1e-3;
  t.sara = bench::on_device(w->at, "sara", w->store.bytes() + w->plan.bytes() + 4 * w->store.count(),
                            [w] { w->accumulate(); });
  add_dense(t, w);
  if (with_pytorch && bench::has_pytorch_on_cuda()) add_pytorch(t, w);
  auto const count = static_cast<double>(w->store.count());
  t.flops = 2 * count * static_cast<double>(size.batch * size.pixels());
  t.bytes = sizeof(T) * static_cast<double>(size.batch * size.pixels() * (size.out + size.in)) + 12 * count;
  return t;
}

template <class T>
bench::benchmark sampled(square_convolution size, double density, bool starred, bool with_pytorch, bool tf32 = false) {
  auto const kernel = std::to_string(size.kernel), side = std::to_string(size.side);
  return {.name = "convolution " + kernel + "x" + kernel,
          .shape = std::to_string(size.in) + "->" + std::to_string(size.out) + " " + side + "x" + side + " B" +
                   std::to_string(size.batch),
          .density = density,
          .dtype = bench::dtype_name<T>(tf32),
          .starred = starred,
          .prepare = [=](int) { return prepare<T>(size, density, tf32, with_pytorch); }};
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  for (std::int64_t const kernel : {3, 1})
    for (auto const& [channels, side] : {std::pair{320, 64}, {640, 32}, {1280, 16}})
      for (double const density : bench::densities) {
        square_convolution const size{channels, channels, side, kernel, 4};
        bool const middle = channels == 640 && density == 0.058;
        if (kernel == 1 && channels != 640) continue;
        all.push_back(sampled<float>(size, density, middle && kernel == 3, middle));
        all.push_back(sampled<sara::bfloat16>(size, density, middle && kernel == 1, middle && kernel == 3));
        if (middle) all.push_back(sampled<float>(size, density, false, false, true));
      }
  return all;
}

bench::family const family{"2 convolution", list};

}  // namespace
