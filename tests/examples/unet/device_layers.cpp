// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sara/backend/thread_pool.hpp>

#include <cstdint>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "diffusion.hpp"
#include "model.hpp"
#include "tests/examples/unet/device_support.hpp"

namespace {

using namespace unet;
using namespace unet::test;
using plain = plain_executor<double>;

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
  device_machine<plain> machine{plain{}, pool};
  side<host_layers<double>> host{pool};
  side<plain_layers<double>> device{machine};
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
    device_convolution<plain> on_device{"conv", 7, 11, geometry};
    for (std::int64_t const room : {std::int64_t{1}, std::int64_t{2 * 63 * 24}, std::int64_t{1} << 30}) {
      CAPTURE(room);  // for the columns of one image, of two, and of all
      pair p;
      p.machine.machine = plain{false, room};
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
        layer.forward(on.run(), x, y, y);
        found.values.push_back(on.read(all_y));
        layer.forward(on.run(), x, y, dy);
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
        device_group_norm<plain> on_device{"norm", 16, activate};
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
          typename Layers::const_activation plus;
          if (accumulate) plus = y;
          results found;
          layer.forward(on.run(), x, y, modulation);
          found.values.push_back(on.read(y));
          recording_sink<Layers> sink{on.run()};
          layer.backward(on.run(), dy, x, dx, sink, plus, modulation, {dvalues.data(), 3, 32});
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
  basic_attention<plain_layers<double>> on_device{"attention", 24};
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

TEST_CASE("a device enlarges as the host does") {
  pair p;
  p.agree(
      [&](auto& on) -> results {
        using Layers = typename std::remove_cvref_t<decltype(on)>::layers;
        auto const x = on.filled(1, 3, {2, 3, 5}), dx = on.filled(2, 3, {2, 3, 5}), y = on.filled(3, 3, {2, 6, 10});
        results found;
        Layers::enlarge(on.run(), x, y);
        found.values.push_back(on.read(y));
        Layers::enlarge_backward(on.run(), y, dx);
        found.values.push_back(on.read(dx));
        return found;
      },
      1e-300);
}

TEST_CASE_TEMPLATE("the whole network of a device has the host's losses and gradients", Real, float, double) {
  twins<Real> t{{.channels = {16, 24, 32}, .embedding = 12, .classes = 4, .words = 7, .attention_from = 1}};
  small_batch<Real> const small;
  double const bound = std::is_same_v<Real, double> ? 1e-11 : 2e-4;
  recording_sink<host_layers<Real>> on_host{t.host.run()};
  recording_sink<plain_layers<Real>> on_device{t.device().run()};
  velocity_loss<Real> host_loss{t.host};
  basic_velocity_loss<plain_layers<Real>> device_loss{t.device()};
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

TEST_CASE("with bfloat16 factors the network is near the exact one, but not it") {
  model_shape const shape{.channels = {16, 24, 32}, .embedding = 12, .classes = 4, .words = 7, .attention_from = 1};
  twins<float> exact{shape}, narrow{shape, true};
  small_batch<float> const small;
  recording_sink<host_layers<float>> on_host{exact.host.run()};
  recording_sink<plain_layers<float>> on_device{narrow.device().run()};
  velocity_loss<float> host_loss{exact.host};
  basic_velocity_loss<plain_layers<float>> device_loss{narrow.device()};
  auto const expected = host_loss.differentiate(small.batch, 8, on_host);
  auto const got = device_loss.differentiate(small.batch, 8, on_device);
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(0.02));
  // All gradients as one vector: some tensors' are small sums of large parts.
  std::vector<float> all_exact, all_narrow;
  for (auto const* p : exact.host.parameters()) {
    auto const &a = on_host.gradients.at(p->name), &b = on_device.gradients.at(p->name);
    all_exact.insert(all_exact.end(), a.begin(), a.end());
    all_narrow.insert(all_narrow.end(), b.begin(), b.end());
  }
  auto const distance = difference(all_narrow, all_exact);
  MESSAGE("relative error of the gradients: " << distance);
  CHECK(distance < 0.05);
  CHECK(distance > 1e-3);  // eight bits of a fraction cannot do better
}

TEST_CASE("a device model refuses weights of another shape") {
  twins<float> t{tiny(3)};
  std::vector<float> one(1);
  CHECK_THROWS_WITH_AS(t.on_device.write([&](std::size_t) { return std::span{one}; }),
                       "time.linear1.weight: expected 256 weights, got 1", std::invalid_argument);
}

}  // namespace
