// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/host.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cuda/device_layers.hpp"
#include "cuda/device_model.hpp"
#include "diffusion.hpp"
#include "model.hpp"
#include "random.hpp"
#include "tests/examples/unet/plain_executor.hpp"
#include "tests/examples/unet/toy.hpp"

/// The layers of a CUDA device on the host: the same bodies, products and wiring, by an executor of plain loops. The
/// host's own layers are the oracle, in double to tell a mistake from rounding.
namespace unet::test {

template <class Real>
using plain_layers = device_layers<plain_executor<Real>>;

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
[[nodiscard]] double difference(std::vector<Real> const& a, std::vector<Real> const& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto const d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += d * d;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return size > 0 ? std::sqrt(error / size) : std::numeric_limits<double>::infinity();
}

/// A network on the host, away from zero in every parameter, and the same one on a device.
template <class Real>
struct twins {
  explicit twins(model_shape const& shape, bool narrow = false)
      : host{backend.threads(), shape}, on_device{plain_executor<Real>{narrow}, backend.threads(), shape} {
    randomise(host);
    on_device.write([this](std::size_t i) { return std::span{host.parameters()[i]->values}; });
  }
  [[nodiscard]] basic_model<plain_layers<Real>>& device() { return on_device.network(); }
  [[nodiscard]] std::vector<std::vector<Real>> device_weights() const {
    std::vector<std::vector<Real>> all;
    for (auto const* p : host.parameters()) all.emplace_back(p->values.size());
    on_device.read([&](std::size_t i) { return std::span{all[i]}; });
    return all;
  }

  sara::host backend{2};
  model<Real> host;
  device_model<plain_executor<Real>> on_device;
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

}  // namespace unet::test
