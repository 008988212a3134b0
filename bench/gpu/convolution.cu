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

  [[nodiscard]] sara::extents weight() const { return {size.out, size.in, size.kernel, size.kernel}; }
  [[nodiscard]] sara::const_tensor_view dy_view() const { return images(dy, size.out); }
  [[nodiscard]] sara::const_tensor_view x_view() const { return images(x, size.in); }
  [[nodiscard]] sara::conv2d_geometry geometry() const { return {.padding = {size.padding(), size.padding()}}; }

  void accumulate() {
    sara::accumulate_conv2d(at.gpu(), weight(), dy_view(), x_view(), geometry(), store.ref(), plan, gradient.data());
  }
  [[nodiscard]] double difference(std::vector<float> const& of_peer) const {
    return bench::relative_difference(bench::taken_from(at, gradient), of_peer);
  }

 private:
  [[nodiscard]] sara::const_tensor_view images(sara::cuda::buffer<T> const& b, std::int64_t channels) const {
    return sara::view(b.data(), {size.batch, channels, size.side, size.side}, sara::memory::cuda);
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
double tolerance(bool tf32) {
  return tf32 ? 5e-3 : std::is_same_v<T, float> ? 5e-5 : 1e-3;
}

template <class T>
bench::trial prepare(square_convolution size, double density, bool tf32, bool with_pytorch) {
  auto const w = std::make_shared<work<T>>(bench::station_of(tf32), size, density);
  bench::trial t;
  t.tolerance = tolerance<T>(tf32);
  t.sara = bench::on_device(w->at, "sara", w->store.bytes() + w->plan.bytes() + 4 * w->store.count(),
                            [w] { w->accumulate(); });
  add_dense(t, w);
  if (with_pytorch && bench::has_pytorch_on_cuda()) add_pytorch(t, w);
  auto const count = static_cast<double>(w->store.count());
  t.flops = 2 * count * static_cast<double>(size.batch * size.pixels());
  t.bytes = sizeof(T) * static_cast<double>(size.batch * size.pixels() * (size.out + size.in)) + 12 * count;
  return t;
}

std::string shape_text(square_convolution c) {
  return std::to_string(c.in) + "->" + std::to_string(c.out) + " " + bench::by(c.side, c.side) + " B" +
         std::to_string(c.batch);
}

template <class T>
bench::benchmark sampled(square_convolution size, double density, bool starred, bool with_pytorch, bool tf32 = false) {
  return {.name = "convolution " + bench::by(size.kernel, size.kernel),
          .shape = shape_text(size),
          .density = density,
          .dtype = bench::dtype_name<T>(tf32),
          .starred = starred,
          .prepare = [=](int) { return prepare<T>(size, density, tf32, with_pytorch); }};
}

/// As "linear by dots", for a convolution.
template <class T>
bench::benchmark crossover(square_convolution size, double density, bool tf32 = false) {
  return {.name = "convolution by dots",
          .shape = shape_text(size),
          .density = density,
          .dtype = bench::dtype_name<T>(tf32),
          .prepare = [=](int) {
            using namespace sara::cuda::detail;
            auto const w = std::make_shared<work<T>>(bench::station_of(tf32), size, density);
            auto const other =
                std::make_shared<sara::cuda::buffer<float>>(w->at.gpu().template allocate<float>(w->store.count()));
            auto const dy = w->dy_view(), x = w->x_view();
            auto const shape = sara::conv2d_shape::of(w->weight(), dy.shape(), x.shape(), w->geometry());
            bench::device_parts const gpu{w->at.gpu()};
            bench::trial t;
            t.tolerance = tolerance<T>(tf32);
            t.sara = bench::on_device(w->at, "sara", w->store.bytes(), [=] {
              dot_convolution(gpu.machine(), shape, dy, x, w->store.ref(), w->gradient.data());
            });
            t.peers.push_back(bench::on_device(
                w->at, "sara by panels", w->store.bytes(),
                [=] { panel_convolution<T>(gpu.machine(), shape, dy, x, w->store.ref(), other->data()); },
                [=] { return w->difference(bench::taken_from(w->at, *other)); }));
            t.flops = 2 * static_cast<double>(w->store.count() * size.along());
            return t;
          }};
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
  for (double const density : {0.001, 0.003, 0.006, 0.01, 0.023, 0.058}) {
    square_convolution const size{640, 640, 32, 3, 4};
    all.push_back(crossover<float>(size, density));
    all.push_back(crossover<sara::bfloat16>(size, density));
    all.push_back(crossover<float>(size, density, true));
  }
  return all;
}

bench::family const family{"2 convolution", list};

}  // namespace
