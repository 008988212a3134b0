// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <span>
#include <vector>

#include "network.hpp"
#include "random.hpp"

namespace unet {

/// Signal and noise of the cosine schedule at time t in [0, 1]: x_t = signal · x_0 + noise · ε, signal² + noise² = 1.
/// Improved Denoising Diffusion Probabilistic Models: Nichol and Dhariwal, 2021.
template <class Real>
struct mixture {
  Real signal;
  Real noise;

  explicit mixture(Real t)
      : signal{std::cos(t * std::numbers::pi_v<Real> / 2)}, noise{std::sin(t * std::numbers::pi_v<Real> / 2)} {}
};

/// Pictures of one training or evaluation step, and the noise they get.
template <class Real>
struct noisy_batch {
  std::vector<std::span<float const>> images;  ///< each [channels, height, width] in [-1, 1]
  std::vector<condition> conditions;
  std::vector<Real> times;
  std::vector<std::uint64_t> noise;  ///< key of each picture's noise

  [[nodiscard]] std::size_t size() const { return images.size(); }
  void clear() {
    images.clear();
    conditions.clear();
    times.clear();
    noise.clear();
  }
};

/// The v-prediction loss of a model: mean over pictures and pixels of (v(x_t) - (signal · ε - noise · x_0))².
/// Progressive Distillation: Salimans and Ho, 2022.
/// Noise and loss are computed on the host wherever the model is, so that every machine is asked the same.
template <class Layers>
class basic_velocity_loss {
  using real = typename Layers::real;

 public:
  explicit basic_velocity_loss(basic_model<Layers>& of) : model_{of} {}

  /// @return  the loss of each picture, [batch], valid until the next call
  std::span<double const> evaluate(noisy_batch<real> const& batch, std::int64_t side) & {
    forward(batch, side, false);
    return losses_;
  }

  /// The same with the gradient of the mean loss handed to the sink.
  template <class Sink>
  std::span<double const> differentiate(noisy_batch<real> const& batch, std::int64_t side, Sink& sink) & {
    forward(batch, side, true);
    Layers::write(model_.run(), velocity_, v_);
    model_.backward(v_, sink);
    release();
    return losses_;
  }

 private:
  /// Leaves the gradient of the mean loss in `velocity_`.
  void forward(noisy_batch<real> const& batch, std::int64_t side, bool training) {
    auto const colours = model_.shape().colours;
    grid const where{static_cast<std::int64_t>(batch.size()), side, side};
    auto const values = static_cast<std::size_t>(colours * where.pixels());
    x_ = model_.memory().take(colours, where);
    v_ = model_.memory().take(colours, where);
    losses_.resize(batch.size());
    for (auto* pictures : {&noisy_, &target_, &velocity_}) pictures->resize(values * batch.size());
    auto const part = [&](std::vector<real>& of, std::size_t i) { return std::span{of}.subspan(i * values, values); };
    model_.pool().parallel_for(where.batch, [&](std::int64_t n) {
      auto const i = static_cast<std::size_t>(n);
      mixture<real> const mix{batch.times[i]};
      auto const noisy = part(noisy_, i), target = part(target_, i);
      auto const image = batch.images[i];
      random_normal<real>(batch.noise[i], noisy);
      for (std::size_t p = 0; p < values; ++p) {
        auto const noise = noisy[p];
        noisy[p] = mix.signal * image[p] + mix.noise * noise;
        target[p] = mix.signal * noise - mix.noise * image[p];
      }
    });
    auto const run = model_.run(training);
    Layers::write(run, noisy_, x_);
    model_.forward(x_, batch.times, batch.conditions, v_, training);
    Layers::read(run, v_, velocity_);
    auto const factor = 2 / static_cast<real>(values * batch.size());
    model_.pool().parallel_for(where.batch, [&](std::int64_t n) {
      auto const i = static_cast<std::size_t>(n);
      auto const velocity = part(velocity_, i), target = part(target_, i);
      double sum = 0;
      for (std::size_t p = 0; p < values; ++p) {
        auto const difference = velocity[p] - target[p];
        sum += static_cast<double>(difference) * static_cast<double>(difference);
        velocity[p] = factor * difference;
      }
      losses_[i] = sum / static_cast<double>(values);
    });
    if (!training) release();
  }

  void release() {
    x_.reset();
    v_.reset();
  }

  basic_model<Layers>& model_;
  typename Layers::buffer x_;
  typename Layers::buffer v_;
  std::vector<real> noisy_;  // each of these: [batch, colours, side, side]
  std::vector<real> target_;
  std::vector<real> velocity_;
  std::vector<double> losses_;
};

template <class Real>
struct host_layers;
/// The loss of a model on the host.
template <class Real>
using velocity_loss = basic_velocity_loss<host_layers<Real>>;

/// How pictures are drawn.
struct sampling {
  int steps = 30;
  double guidance = 2;  ///< 1 for none: v = v_any + guidance · (v_asked - v_any)
  std::int64_t side = 32;
  std::size_t batch = 32;  ///< pictures at a time; the result does not depend on it
};

/// Draws pictures with the deterministic DDIM sampler and classifier-free guidance.
/// Picture i depends only on its condition and on the noise of the stream seeds[i].
/// Denoising Diffusion Implicit Models: Song et al., 2020; Classifier-Free Diffusion Guidance: Ho and Salimans, 2022.
/// @return  [n, colours, side, side] in [-1, 1]
template <class Layers>
[[nodiscard]] std::vector<float> sample(basic_model<Layers>& from, std::span<condition const> conditions,
                                        std::span<std::uint64_t const> seeds, sampling const& how = {}) {
  using real = typename Layers::real;
  auto const colours = from.shape().colours;
  auto const values = static_cast<std::size_t>(colours * how.side * how.side);
  std::vector<float> result(values * conditions.size());
  bool const guided = how.guidance != 1;
  condition const any{static_cast<int>(from.shape().classes) - 1, {}};
  auto const run = from.run(false);
  for (std::size_t begin = 0; begin < conditions.size(); begin += how.batch) {
    auto const count = std::min(how.batch, conditions.size() - begin);
    grid const where{static_cast<std::int64_t>(guided ? 2 * count : count), how.side, how.side};
    std::vector<condition> asked{conditions.begin() + static_cast<std::ptrdiff_t>(begin),
                                 conditions.begin() + static_cast<std::ptrdiff_t>(begin + count)};
    if (guided) asked.resize(2 * count, any);
    // With guidance, the second half are the same pictures as the first, shown without their condition.
    std::vector<real> pictures(values * asked.size()), velocities(pictures.size());
    std::span const x{pictures.data(), values * count};
    for (std::size_t i = 0; i < count; ++i) random_normal<real>(seeds[begin + i], x.subspan(i * values, values));
    auto const input = from.memory().take(colours, where), velocity = from.memory().take(colours, where);
    std::vector<real> times(asked.size());
    for (int step = 0; step < how.steps; ++step) {
      auto const t = 1 - static_cast<real>(step) / static_cast<real>(how.steps);
      mixture<real> const now{t}, next{1 - static_cast<real>(step + 1) / static_cast<real>(how.steps)};
      std::fill(times.begin(), times.end(), t);
      if (guided) std::copy(x.begin(), x.end(), pictures.begin() + static_cast<std::ptrdiff_t>(x.size()));
      Layers::write(run, pictures, input);
      from.forward(input, times, asked, velocity, false);
      Layers::read(run, velocity, velocities);
      from.pool().parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t n) {
        auto const first = static_cast<std::size_t>(n) * values;
        for (auto i = first; i < first + values; ++i) {
          real v = velocities[i];
          if (guided) {
            real const unasked = velocities[x.size() + i];
            v = unasked + static_cast<real>(how.guidance) * (v - unasked);
          }
          // Colours outside of the range are guidance's overshoot: cut them, and let the noise make up for it.
          real const clean = std::clamp(now.signal * x[i] - now.noise * v, real{-1}, real{1});
          real const noise = (x[i] - now.signal * clean) / now.noise;
          x[i] = next.signal * clean + next.noise * noise;
        }
      });
    }
    std::transform(x.begin(), x.end(), result.begin() + static_cast<std::ptrdiff_t>(begin * values),
                   [](real value) { return std::clamp(static_cast<float>(value), -1.0F, 1.0F); });
  }
  return result;
}

}  // namespace unet
