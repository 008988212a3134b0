// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "../../layers/silu.hpp"
#include "../../parameter.hpp"
#include "../planes.hpp"

namespace unet {

/// Groups and ε of every group normalisation here, as on the host.
inline constexpr std::int64_t device_groups = 8;
inline constexpr double device_epsilon = 1e-5;

namespace detail {

/// What the bodies of one normalisation know of it.
template <class Real>
struct normalisation {
  Real const* weight;      // [channels]
  Real const* bias;        // [channels]
  Real* mean;              // [groups, batch]
  Real* inverse;           // [groups, batch], 1 / √(variance + ε)
  Real const* modulation;  // [batch, 2 · channels], or null
  std::int64_t channels;
  std::int64_t batch;
  std::int32_t pixels;
  bool active;  // SiLU follows

  [[nodiscard]] SARA_HOST_DEVICE std::int64_t pitch() const { return batch * pixels; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t per_group() const { return channels / device_groups; }
  [[nodiscard]] SARA_HOST_DEVICE std::int64_t group(std::int64_t c, std::int64_t n) const {
    return c / per_group() * batch + n;
  }
  [[nodiscard]] SARA_HOST_DEVICE Real scale(std::int64_t c, std::int64_t n) const {
    return modulation ? 1 + modulation[n * 2 * channels + c] : Real{1};
  }
  /// What x̂ is multiplied by: γ · (1 + scale).
  [[nodiscard]] SARA_HOST_DEVICE Real gain(std::int64_t c, std::int64_t n) const { return weight[c] * scale(c, n); }
  /// The value before SiLU.
  [[nodiscard]] SARA_HOST_DEVICE Real value(std::int64_t c, std::int64_t n, Real x) const {
    auto const g = group(c, n);
    auto const slope = gain(c, n) * inverse[g];
    auto const shift = modulation ? modulation[n * 2 * channels + channels + c] : Real{0};
    return slope * x + (bias[c] * scale(c, n) + shift - slope * mean[g]);
  }
};

/// Σ x and Σ x² of one group of one image; row is group · batch + image.
template <class Real>
struct moments {
  normalisation<Real> of;
  Real const* x;
  SARA_HOST_DEVICE two_sums operator()(std::int64_t row, std::int32_t i) const {
    auto const c = row / of.batch * of.per_group() + i / of.pixels, n = row % of.batch;
    auto const value = static_cast<double>(x[c * of.pitch() + n * of.pixels + i % of.pixels]);
    return {value, value * value};
  }
};
template <class Real>
struct store_moments {
  normalisation<Real> of;
  SARA_HOST_DEVICE void operator()(std::int64_t row, two_sums sums) const {
    auto const count = static_cast<double>(of.per_group() * of.pixels);
    auto const mean = sums.first / count, variance = sums.second / count - mean * mean;
    of.mean[row] = static_cast<Real>(mean);
    of.inverse[row] = static_cast<Real>(1 / std::sqrt((variance > 0 ? variance : 0.0) + device_epsilon));
  }
};

template <class Real>
struct normalise {
  normalisation<Real> of;
  Real const* x;
  Real* y;
  SARA_HOST_DEVICE void operator()(std::int64_t c, std::int32_t p) const {
    auto const i = c * of.pitch() + p;
    auto const value = of.value(c, p / of.pixels, x[i]);
    y[i] = of.active ? silu(value) : value;
  }
};

/// Takes dy back through SiLU in place; Σ dy and Σ dy · x̂ of one channel of one image. Row is channel · batch + image.
template <class Real>
struct backward_sums {
  normalisation<Real> of;
  Real const* x;
  Real* dy;
  SARA_HOST_DEVICE two_sums operator()(std::int64_t row, std::int32_t pixel) const {
    auto const c = row / of.batch, n = row % of.batch;
    auto const i = c * of.pitch() + n * of.pixels + pixel;
    if (of.active) dy[i] *= silu_slope(of.value(c, n, x[i]));
    auto const g = of.group(c, n);
    auto const d = static_cast<double>(dy[i]);
    return {d, d * static_cast<double>(of.inverse[g]) * (static_cast<double>(x[i]) - static_cast<double>(of.mean[g]))};
  }
};
template <class Real>
struct store_two_sums {
  Real* first;
  Real* second;
  SARA_HOST_DEVICE void operator()(std::int64_t row, two_sums sums) const {
    first[row] = static_cast<Real>(sums.first);
    second[row] = static_cast<Real>(sums.second);
  }
};

/// dx = inverse · gain · dy + along · x + constant: the last two of each group of each image, from its channels' sums.
template <class Real>
struct group_slopes {
  normalisation<Real> of;
  Real const* plain;   // [channels, batch]
  Real const* normal;  // [channels, batch]
  Real* along;         // [groups, batch]
  Real* constant;      // [groups, batch]
  SARA_HOST_DEVICE void operator()(std::int64_t, std::int32_t g) const {
    std::int64_t const first = g / of.batch * of.per_group(), n = g % of.batch;
    Real plain_sum{0}, normal_sum{0};
    for (auto c = first; c < first + of.per_group(); ++c) {
      plain_sum += of.gain(c, n) * plain[c * of.batch + n];
      normal_sum += of.gain(c, n) * normal[c * of.batch + n];
    }
    auto const count = static_cast<Real>(of.per_group() * of.pixels);
    along[g] = -of.inverse[g] * of.inverse[g] * normal_sum / count;
    constant[g] = -of.inverse[g] * plain_sum / count - along[g] * of.mean[g];
  }
};

template <class Real>
struct input_gradient {
  normalisation<Real> of;
  Real const* x;
  Real const* dy;
  Real const* along;
  Real const* constant;
  Real* dx;
  Real const* plus;
  SARA_HOST_DEVICE void operator()(std::int64_t c, std::int32_t p) const {
    std::int64_t const n = p / of.pixels, g = of.group(c, n), i = c * of.pitch() + p;
    auto const value = of.inverse[g] * of.gain(c, n) * dy[i] + along[g] * x[i] + constant[g];
    dx[i] = plus ? plus[i] + value : value;
  }
};

/// Gradients of scale and shift; row is the image, column the channel.
template <class Real>
struct modulation_gradient {
  normalisation<Real> of;
  Real const* plain;
  Real const* normal;
  Real* to;
  SARA_HOST_DEVICE void operator()(std::int64_t n, std::int32_t c) const {
    auto const i = c * of.batch + n;
    to[n * 2 * of.channels + c] = of.weight[c] * normal[i] + of.bias[c] * plain[i];
    to[n * 2 * of.channels + of.channels + c] = plain[i];
  }
};

/// Gradient of γ or β: Σ (1 + scale) · sums over the images.
template <class Real>
struct gain_gradient {
  normalisation<Real> of;
  Real const* sums;
  Real* to;
  SARA_HOST_DEVICE void operator()(std::int64_t, std::int32_t c) const {
    Real sum{0};
    for (std::int64_t n = 0; n < of.batch; ++n) sum += of.scale(c, n) * sums[c * of.batch + n];
    to[c] = sum;
  }
};

}  // namespace detail

/// GroupNorm, then optionally scale and shift from an embedding, then optionally SiLU, on a device: see the host's.
template <executor Executor>
class device_group_norm {
  using real = typename Executor::real;
  using context = device_context<Executor>;
  using activation = planes<real>;
  using const_activation = planes<real const>;
  using const_matrix = matrix_view<real const>;

 public:
  device_group_norm(std::string const& name, std::int64_t channels, bool activate)
      : channels_{channels},
        activate_{activate},
        weight{name + ".weight", {channels}},
        bias{name + ".bias", {channels}} {}

  /// @param modulation  [batch, 2 · channels]: scales, then shifts; data is null for none
  void forward(context const& run, const_activation const& x, activation const& y, const_matrix modulation = {}) {
    auto const rows = device_groups * x.grid.batch;
    statistics_.take(run, 2, rows);
    auto const of = describe(x, modulation);
    run.machine.reduce(rows, of.per_group() * of.pixels, detail::moments<real>{of, x.first},
                       detail::store_moments<real>{of});
    run.machine.launch(channels_, x.pitch(), detail::normalise<real>{of, x.first, y.first});
  }

  /// @param dy           overwritten: it is the scratch memory of this pass
  /// @param x            the input of the forward pass
  /// @param dx           may be dy itself
  /// @param dmodulation  [batch, 2 · channels], overwritten; ignored without modulation
  /// @param plus         what is added to dx, maybe dx itself; nothing where its `first` is null
  template <class Sink>
  void backward(context const& run, activation const& dy, const_activation const& x, activation const& dx, Sink& sink,
                const_activation const& plus = {}, const_matrix modulation = {}, matrix_view<real> dmodulation = {}) {
    auto const of = describe(x, modulation);
    auto const sums = channels_ * of.batch, groups = device_groups * of.batch;
    auto const scratch = run.memory.template take_elements<real>(2 * sums + 2 * groups + 2 * channels_);
    real* const plain = scratch.template as<real>();
    real *const normal = plain + sums, *const along = normal + sums, *const constant = along + groups,
                *const gradient = constant + groups;
    run.machine.reduce(sums, of.pixels, detail::backward_sums<real>{of, x.first, dy.first},
                       detail::store_two_sums<real>{plain, normal});
    run.machine.launch(1, groups, detail::group_slopes<real>{of, plain, normal, along, constant});
    run.machine.launch(channels_, x.pitch(),
                       detail::input_gradient<real>{of, x.first, dy.first, along, constant, dx.first, plus.first});
    if (modulation.data)
      run.machine.launch(of.batch, channels_, detail::modulation_gradient<real>{of, plain, normal, dmodulation.data});
    hand_over(run, of, weight, normal, gradient, sink);
    hand_over(run, of, bias, plain, gradient + channels_, sink);
  }

  template <class F>
  void each_parameter(F&& f) {
    f(weight);
    f(bias);
  }

 private:
  [[nodiscard]] detail::normalisation<real> describe(const_activation const& x, const_matrix const& modulation) const {
    auto const statistics = statistics_.view();
    return {weight.data(),   bias.data(), statistics.data, statistics.data + statistics.columns,
            modulation.data, channels_,   x.grid.batch,    static_cast<std::int32_t>(x.grid.pixels()),
            activate_};
  }

  template <class Sink>
  void hand_over(context const& run, detail::normalisation<real> const& of, device_parameter<real> const& p,
                 real const* sums, real* gradient, Sink& sink) {
    if (!sink.wants(p)) return;
    run.machine.launch(1, channels_, detail::gain_gradient<real>{of, sums, gradient});
    sink.dense(p, std::span<real const>{gradient, static_cast<std::size_t>(channels_)});
  }

  std::int64_t channels_;
  bool activate_;
  device_matrix<Executor> statistics_;  // means, then inverses, of the forward pass

 public:
  device_parameter<real> weight;
  device_parameter<real> bias;
};

}  // namespace unet
