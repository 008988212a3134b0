// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sara/backend/host.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "assess.hpp"
#include "cuda/device_layers.hpp"
#include "cuda/device_model.hpp"
#include "dense_gradients.hpp"
#include "diffusion.hpp"
#include "finetune.hpp"
#include "model.hpp"
#include "tests/examples/unet/plain_executor.hpp"
#include "tests/examples/unet/toy.hpp"
#include "tuning.hpp"

// The layers of a CUDA device on the host: the same bodies, products and wiring, by an executor of plain loops. The
// host's own layers are the oracle, in double to tell a mistake from rounding.

namespace {

using namespace unet;

template <class Real>
using plain = unet::test::plain_executor<Real>;
template <class Real>
using layers_of = device_layers<plain<Real>>;

/// Keeps every gradient under its parameter's name, each as the dense one.
template <class Layers>
struct recording_sink {
  using real = typename Layers::real;
  using described = typename Layers::parameter;

  typename Layers::context run;
  std::map<std::string, std::vector<real>> gradients = {};

  [[nodiscard]] bool wants(described const&) const { return true; }
  void linear(described const& p, typename Layers::const_matrix dy, typename Layers::const_matrix x) {
    Layers::weight_gradient(run, dy, x, room(p, dy.columns));
  }
  void convolution(described const& p, typename Layers::const_activation dy, typename Layers::const_activation x,
                   convolution_geometry const& geometry) {
    Layers::weight_gradient(run, dy, x, geometry, room(p, dy.channels));
  }
  void dense(described const& p, std::span<real const> gradient) {
    gradients[p.name].assign(gradient.begin(), gradient.end());
  }

 private:
  matrix_view<real> room(described const& p, std::int64_t rows) {
    auto& g = gradients[p.name];
    g.resize(static_cast<std::size_t>(p.size()));
    return {g.data(), rows, p.size() / rows};
  }
};

/// ‖a - b‖ / ‖b‖, infinite where one has no numbers.
template <class Real>
double difference(std::vector<Real> const& a, std::vector<Real> const& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto const d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return size > 0 ? std::sqrt(error / size) : std::numeric_limits<double>::infinity();
}

std::vector<double> noise(std::uint64_t seed, std::int64_t n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 2 * random_uniform(seed, i) - 1;
  return values;
}

/// One set of layers, its memory, and what a test does with activations.
template <class Layers>
struct side {
  using layers = Layers;

  explicit side(typename Layers::machine& on) : machine{on}, memory(Layers::make_memory(on)) {}

  [[nodiscard]] typename Layers::context run() { return {machine, memory, true}; }
  [[nodiscard]] typename Layers::buffer filled(std::uint64_t seed, std::int64_t channels, grid const& where) {
    auto out = memory.take(channels, where);
    auto const values = noise(seed, channels * where.batch * where.pixels());
    Layers::write(run(), values, out);
    return out;
  }
  [[nodiscard]] std::vector<double> read(typename Layers::const_activation const& from) {
    std::vector<double> out(static_cast<std::size_t>(from.channels * from.grid.batch * from.grid.pixels()));
    Layers::read(run(), from, out);
    return out;
  }

  typename Layers::machine& machine;
  typename Layers::memory memory;
};

/// What a layer computed: activations, and gradients by the name of their parameter.
struct results {
  std::vector<std::vector<double>> values = {};
  std::map<std::string, std::vector<double>> gradients = {};
};

/// The host's layers, and the same layers of a device.
struct pair {
  sara::thread_pool pool{2};
  device_machine<plain<double>> machine{plain<double>{}, pool};
  side<host_layers<double>> host{pool};
  side<layers_of<double>> device{machine};
  std::vector<std::vector<double>> weights = {};  // of the device's layer

  /// Gives both layers the same random weights.
  template <class HostLayer, class DeviceLayer>
  void randomise(HostLayer& on_host, DeviceLayer& on_device) {
    std::uint64_t seed = 77;
    std::map<std::string, std::vector<double>> values;
    on_host.each_parameter([&](parameter<double>& p) {
      if (p.begin.radius == 0) p.begin.radius = 0.3;  // also what starts at zero or one
      p.initialise(seed++);
      values[p.name] = p.values;
    });
    on_device.each_parameter([&](device_parameter<double>& p) {
      auto& here = weights.emplace_back(values.at(p.name));
      REQUIRE(static_cast<std::int64_t>(here.size()) == p.size());
      p.values = here.data();
    });
  }

  /// What `f` computes with the layers of each side, compared.
  template <class F>
  void agree(F&& f, double bound = 1e-12) {
    auto const expected = f(host), got = f(device);
    REQUIRE(expected.values.size() == got.values.size());
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
      CAPTURE(i);
      CHECK(difference(got.values[i], expected.values[i]) < bound);
    }
    REQUIRE(expected.gradients.size() == got.gradients.size());
    for (auto const& entry : expected.gradients) {
      auto const& name = entry.first;  // a structured binding could not be captured
      CAPTURE(name);
      REQUIRE(got.gradients.count(name) == 1);
      CHECK(difference(got.gradients.at(name), entry.second) < bound);
    }
  }
};

template <class Layers, class HostLayer, class DeviceLayer>
auto& layer_for(HostLayer& on_host, DeviceLayer& on_device) {
  if constexpr (std::is_same_v<Layers, host_layers<double>>)
    return on_host;
  else
    return on_device;
}

TEST_CASE("a device's convolution is the host's") {
  for (auto const geometry : {convolution_geometry{3, 1}, convolution_geometry{1, 1}, convolution_geometry{3, 2}}) {
    CAPTURE(geometry.kernel);
    CAPTURE(geometry.stride);
    grid const in{5, 6, 4};
    grid const out = geometry.stride == 2 ? in.halved() : in;
    convolution<double> on_host{"conv", 7, 11, geometry};
    device_convolution<plain<double>> on_device{"conv", 7, 11, geometry};
    for (std::int64_t const room : {std::int64_t{1}, std::int64_t{2 * 63 * 24}, std::int64_t{1} << 30}) {
      CAPTURE(room);  // for the columns of one image, of two, and of all
      pair p;
      p.machine.machine = plain<double>{false, room};
      p.randomise(on_host, on_device);
      p.agree([&](auto& on) -> results {
        using Layers = typename std::remove_cvref_t<decltype(on)>::layers;
        auto& layer = layer_for<Layers>(on_host, on_device);
        // Inputs and outputs are some channels of larger buffers.
        auto const all_x = on.filled(1, 9, in), all_dy = on.filled(2, 13, out), all_y = on.filled(3, 12, out),
                   dx = on.filled(4, 7, in);
        auto const x = all_x.view().slice(2, 7), dy = all_dy.view().slice(1, 11), y = all_y.view().slice(1, 11);
        results found;
        layer.forward(on.run(), x, y);
        found.values.push_back(on.read(all_y));
        layer.forward(on.run(), x, y, true);
        found.values.push_back(on.read(all_y));
        layer.backward_input(on.run(), dy, dx);
        found.values.push_back(on.read(dx));
        layer.backward_input(on.run(), dy, dx, true);
        found.values.push_back(on.read(dx));
        recording_sink<Layers> sink{on.run()};
        layer.backward_weight(on.run(), dy, x, sink);
        found.gradients = sink.gradients;
        return found;
      });
    }
  }
}

TEST_CASE("a device's group normalisation is the host's") {
  grid const where{3, 4, 6};
  for (bool const activate : {false, true})
    for (bool const modulated : {false, true})
      for (bool const accumulate : {false, true}) {
        CAPTURE(activate);
        CAPTURE(modulated);
        CAPTURE(accumulate);
        pair p;
        group_norm<double> on_host{"norm", 16, activate};
        device_group_norm<plain<double>> on_device{"norm", 16, activate};
        p.randomise(on_host, on_device);
        p.agree([&](auto& on) -> results {
          using Layers = typename std::remove_cvref_t<decltype(on)>::layers;
          auto& layer = layer_for<Layers>(on_host, on_device);
          auto values = noise(5, 3 * 32);
          std::vector<double> dvalues(values.size(), 0.5);
          matrix_view<double> const modulation{modulated ? values.data() : nullptr, 3, 32};
          auto const x = on.filled(1, 16, where), y = on.filled(2, 16, where), dy = on.filled(3, 16, where),
                     other = on.filled(4, 16, where);
          auto const& dx = accumulate ? other : dy;
          results found;
          layer.forward(on.run(), x, y, modulation);
          found.values.push_back(on.read(y));
          recording_sink<Layers> sink{on.run()};
          layer.backward(on.run(), dy, x, dx, sink, accumulate, modulation, {dvalues.data(), 3, 32});
          found.values.push_back(on.read(dx));
          found.values.push_back(dvalues);
          found.gradients = sink.gradients;
          return found;
        });
      }
}

TEST_CASE("a device's attention is the host's") {
  grid const where{3, 4, 2};
  pair p;
  attention<double> on_host{"attention", 24};
  basic_attention<layers_of<double>> on_device{"attention", 24};
  p.randomise(on_host, on_device);
  p.agree([&](auto& on) -> results {
    using Layers = typename std::remove_cvref_t<decltype(on)>::layers;
    auto& layer = layer_for<Layers>(on_host, on_device);
    auto const x = on.filled(1, 24, where), y = on.filled(2, 24, where), dy = on.filled(3, 24, where),
               dx = on.filled(4, 24, where);
    results found;
    layer.forward(on.run(), x, y);
    found.values.push_back(on.read(y));
    recording_sink<Layers> sink{on.run()};
    layer.backward(on.run(), dy, dx, sink);
    found.values.push_back(on.read(dx));
    found.gradients = sink.gradients;
    return found;
  });
}

TEST_CASE("a device enlarges and copies as the host does") {
  pair p;
  p.agree(
      [&](auto& on) -> results {
        using Layers = typename std::remove_cvref_t<decltype(on)>::layers;
        auto const x = on.filled(1, 3, {2, 3, 5}), dx = on.filled(2, 3, {2, 3, 5}), y = on.filled(3, 3, {2, 6, 10}),
                   all = on.filled(4, 7, {2, 3, 5});
        results found;
        Layers::enlarge(on.run(), x, y);
        found.values.push_back(on.read(y));
        Layers::enlarge_backward(on.run(), y, dx);
        found.values.push_back(on.read(dx));
        Layers::copy(on.run(), dx, all.view().slice(3, 3));
        found.values.push_back(on.read(all));
        return found;
      },
      1e-300);
}

/// A network on the host, away from zero in every parameter, and the same one on a device.
template <class Real>
struct twins {
  explicit twins(model_shape const& shape, bool narrow = false)
      : host{backend.threads(), shape}, on_device{plain<Real>{narrow}, backend.threads(), shape} {
    test::randomise(host);
    on_device.write([this](std::size_t i) { return std::span{host.parameters()[i]->values}; });
  }
  [[nodiscard]] basic_model<layers_of<Real>>& device() { return on_device.network(); }
  [[nodiscard]] std::vector<std::vector<Real>> device_weights() const {
    std::vector<std::vector<Real>> all;
    for (auto const* p : host.parameters()) all.emplace_back(p->values.size());
    on_device.read([&](std::size_t i) { return std::span{all[i]}; });
    return all;
  }

  sara::host backend{2};
  model<Real> host;
  device_model<plain<Real>> on_device;
};

/// Three pictures of 8x8 with labels and captions.
template <class Real>
struct small_batch {
  static constexpr int first[] = {3, 5, 6}, second[] = {1};

  small_batch() : pixels(std::size_t{3} * 3 * 8 * 8) {
    random_normal<float>(9, pixels);
    std::array<condition, 3> const asked{{{1, first}, {3, {}}, {0, second}}};
    for (std::size_t i = 0; i < 3; ++i) {
      batch.images.push_back(std::span<float const>{pixels}.subspan(i * 192, 192));
      batch.conditions.push_back(asked[i]);
      batch.times.push_back(static_cast<Real>(0.2 + 0.3 * static_cast<double>(i)));
      batch.noise.push_back(i);
    }
  }

  std::vector<float> pixels;
  noisy_batch<Real> batch;
};

TEST_CASE_TEMPLATE("the whole network of a device has the host's losses and gradients", Real, float, double) {
  twins<Real> t{{.channels = {16, 24, 32}, .embedding = 12, .classes = 4, .words = 7, .attention_from = 1}};
  small_batch<Real> const small;
  double const bound = std::is_same_v<Real, double> ? 1e-11 : 2e-4;
  recording_sink<host_layers<Real>> on_host{t.host.run()};
  recording_sink<layers_of<Real>> on_device{t.device().run()};
  velocity_loss<Real> host_loss{t.host};
  basic_velocity_loss<layers_of<Real>> device_loss{t.device()};
  for (int pass = 0; pass < 2; ++pass) {  // the second in memory that has been used
    auto const expected = host_loss.differentiate(small.batch, 8, on_host);
    auto const got = device_loss.differentiate(small.batch, 8, on_device);
    for (std::size_t i = 0; i < expected.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(bound));
    CHECK(on_device.gradients.size() == t.host.parameters().size());
    for (auto const* p : t.host.parameters()) {
      CAPTURE(p->name);
      CHECK(difference(on_device.gradients[p->name], on_host.gradients[p->name]) < bound);
    }
  }
  auto const allocated = t.device().memory().allocated();
  auto const again = device_loss.evaluate(small.batch, 8);
  CHECK(t.device().memory().allocated() == allocated);
  CHECK(again[0] == doctest::Approx(host_loss.evaluate(small.batch, 8)[0]).epsilon(bound));
}

TEST_CASE("a device's compact gradients are its dense ones, gathered") {
  twins<double> t{{.channels = {8, 16, 24}, .embedding = 16, .classes = 4, .words = 7}};
  sara::fine_tuner tuner{t.backend, named_weights(t.device()),
                         sara::random{.fraction = 0.3, .over = sara::scope::tensor, .seed = 5},
                         sara::constant_rate{.rate = 1e-3}, sara::compute_in<double>{}};
  sara_gradients sampled{t.device(), tuner};
  recording_sink<host_layers<double>> dense{t.host.run()};
  small_batch<double> const small;
  basic_velocity_loss<layers_of<double>>{t.device()}.differentiate(small.batch, 8, sampled);
  velocity_loss<double>{t.host}.differentiate(small.batch, 8, dense);
  auto const selected = tuner.adapter();
  CHECK(selected.tensors.size() == t.host.parameters().size());
  for (auto const* p : t.host.parameters()) {
    CAPTURE(p->name);
    std::vector<double> expected;
    for (auto const position : selected.tensors.at(p->name).positions)
      expected.push_back(dense.gradients[p->name][static_cast<std::size_t>(position)]);
    CHECK(difference(tuner.gradient(p->name), expected) < 1e-11);
  }
}

TEST_CASE("a device learns what the host learns, and draws what it draws") {
  auto how = test::quick();
  SUBCASE("the smallest weights") {}
  SUBCASE("with everything switched on") {
    how.reselect = "halfway";
    how.nuclear = 1e-3;
    how.images_limit = 5;
  }
  SUBCASE("all weights") { how.method = "full"; }
  twins<float> t{test::tiny(3)};
  auto const data = test::toy_data();
  auto const base = t.device_weights();
  auto const expected = fine_tune(t.backend, t.host, data, how, {});
  auto const got = tune(t.backend, t.device(), data, how, {});
  CHECK(got.steps == expected.steps);
  CHECK(got.selected == expected.selected);
  CHECK(got.tunable == expected.tunable);
  auto const learned = t.device_weights();
  double error = 0, moved = 0;
  for (auto const* p : t.host.parameters()) {
    CAPTURE(p->name);
    for (std::size_t i = 0; i < p->values.size(); ++i) {
      error += std::pow(static_cast<double>(learned[p->index][i] - p->values[i]), 2);
      moved += std::pow(static_cast<double>(p->values[i] - base[p->index][i]), 2);
    }
    auto const tensor = expected.adapter.tensors.find(p->name);
    if (tensor != expected.adapter.tensors.end())
      CHECK(got.adapter.tensors.at(p->name).positions == tensor->second.positions);
    else
      CHECK(learned[p->index] == base[p->index]);
  }
  // Adam turns a gradient that is nearly zero into a step of either sign, so a few weights part ways.
  CHECK(moved > 0);
  CHECK(std::sqrt(error / moved) < 1e-2);

  std::array<int, 1> const token{1};
  std::array<condition, 3> const asked{{{0, token}, {1, {}}, {null_class, token}}};
  std::array<std::uint64_t, 3> const seeds{1, 2, 3};
  for (auto* p : t.host.parameters()) p->values = learned[p->index];
  auto const here = sample(t.host, asked, seeds, {.steps = 3, .batch = 2});
  auto const there = sample(t.device(), asked, seeds, {.steps = 3, .batch = 3});
  REQUIRE(here.size() == there.size());
  for (std::size_t i = 0; i < here.size(); ++i) REQUIRE(std::abs(here[i] - there[i]) < 1e-4F);
}

TEST_CASE("with bfloat16 factors the network is near the exact one, but not it, and learns") {
  twins<float> exact{test::tiny(3)}, narrow{test::tiny(3), true};
  auto const data = test::toy_data();
  auto how = test::quick();
  how.steps = 12;
  small_batch<float> const small_pictures;
  auto batch = small_pictures.batch;
  batch.conditions.assign(3, condition{1, {}});
  recording_sink<host_layers<float>> on_host{exact.host.run()};
  recording_sink<layers_of<float>> on_device{narrow.device().run()};
  velocity_loss<float>{exact.host}.differentiate(batch, 8, on_host);
  basic_velocity_loss<layers_of<float>> loss{narrow.device()};
  loss.differentiate(batch, 8, on_device);
  double farthest = 0;
  for (auto const* p : exact.host.parameters()) {
    if (p->name == "word.weight") continue;  // no words, no gradient
    CAPTURE(p->name);
    auto const distance = difference(on_device.gradients[p->name], on_host.gradients[p->name]);
    farthest = std::max(farthest, distance);
    CHECK(distance < 0.05);
  }
  CHECK(farthest > 1e-4);  // eight bits of a fraction cannot do better

  auto const loss_of = [&](auto& net) {
    noisy_batch<float> all;
    batch_stream{data, {.batch = 8, .seed = 9}}.fill(all, 0);
    double sum = 0;
    for (double const one : basic_velocity_loss<layers_of<float>>{net}.evaluate(all, image_side)) sum += one;
    return sum;
  };
  auto const before = loss_of(narrow.device());
  auto const learned = tune(narrow.backend, narrow.device(), data, how, {});
  CHECK(learned.steps == 12);
  CHECK(loss_of(narrow.device()) < 0.9 * before);
}

TEST_CASE("a device model refuses weights of another shape") {
  twins<float> t{test::tiny(3)};
  std::vector<float> one(1);
  CHECK_THROWS_WITH_AS(t.on_device.write([&](std::size_t) { return std::span{one}; }),
                       "time.linear1.weight: expected 256 weights, got 1", std::invalid_argument);
}

}  // namespace
