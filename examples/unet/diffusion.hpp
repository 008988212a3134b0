// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <span>
#include <vector>

#include "model.hpp"
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

/// Copies an image [channels, height, width] into its place in the strips, padding zero.
template <class Real, class Value>
void write_image(strips<Real> const& to, std::int64_t n, Value&& value) {
  auto const& where = to.grid;
  std::size_t i = 0;
  for (std::int64_t c = 0; c < to.channels; ++c) {
    Real* const image = to.image(c, n);
    for (std::int64_t row = 0; row < where.height; ++row)
      for (std::int64_t column = 0; column < where.width; ++column, ++i) image[row * where.pitch() + column] = value(i);
    zero_padding({1, where.height, where.width}, image, 0, where.image_pitch());
  }
}

/// The v-prediction loss of a model: mean over pictures and pixels of (v(x_t) - (signal · ε - noise · x_0))².
/// Progressive Distillation: Salimans and Ho, 2022.
template <class Real>
class velocity_loss {
 public:
  explicit velocity_loss(model<Real>& of) : model_{of} {}

  /// @return  the loss of each picture, [batch]
  std::span<double const> evaluate(noisy_batch<Real> const& batch, std::int64_t side) {
    forward(batch, side, false);
    return losses_;
  }

  /// The same with the gradient of the mean loss handed to the sink.
  template <gradient_sink<Real> Sink>
  std::span<double const> differentiate(noisy_batch<Real> const& batch, std::int64_t side, Sink& sink) {
    forward(batch, side, true);
    model_.backward(velocity_, sink);
    release();
    return losses_;
  }

 private:
  void forward(noisy_batch<Real> const& batch, std::int64_t side, bool training) {
    auto const colours = model_.shape().colours;
    grid const where{static_cast<std::int64_t>(batch.size()), side, side};
    auto const values = static_cast<std::size_t>(colours * where.pixels());
    noisy_ = model_.memory().take(colours, where);
    target_ = model_.memory().take(colours, where);
    velocity_ = model_.memory().take(colours, where);
    losses_.resize(batch.size());
    noise_.resize(values * batch.size());
    model_.pool().parallel_for(where.batch, [&](std::int64_t n) {
      auto const i = static_cast<std::size_t>(n);
      mixture<Real> const mix{batch.times[i]};
      auto const noise = std::span{noise_}.subspan(i * values, values);
      auto const image = batch.images[i];
      random_normal<Real>(batch.noise[i], noise);
      write_image(noisy_.view(), n, [&](std::size_t p) { return mix.signal * image[p] + mix.noise * noise[p]; });
      write_image(target_.view(), n, [&](std::size_t p) { return mix.signal * noise[p] - mix.noise * image[p]; });
    });
    model_.forward(noisy_, batch.times, batch.conditions, velocity_, training);
    // The velocity becomes the gradient of the mean loss in place.
    model_.pool().parallel_for(where.batch, [&](std::int64_t n) {
      double sum = 0;
      for (std::int64_t c = 0; c < colours; ++c) {
        Real* const v = velocity_.view().image(c, n);
        Real const* const target = target_.view().image(c, n);
        for (std::int64_t p = 0; p < where.image_pitch(); ++p) v[p] -= target[p];
        sum += static_cast<double>(dot_of<Real>(v, v, where.image_pitch()));
        auto const factor = 2 / static_cast<Real>(values * batch.size());
        for (std::int64_t p = 0; p < where.image_pitch(); ++p) v[p] *= factor;
      }
      losses_[static_cast<std::size_t>(n)] = sum / static_cast<double>(values);
    });
    target_.reset();
    if (!training) release();
  }

  void release() {
    noisy_.reset();
    velocity_.reset();
  }

  model<Real>& model_;
  strip_buffer<Real> noisy_;
  strip_buffer<Real> target_;
  strip_buffer<Real> velocity_;
  std::vector<Real> noise_;
  std::vector<double> losses_;
};

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
template <class Real>
[[nodiscard]] std::vector<float> sample(model<Real>& from, std::span<condition const> conditions,
                                        std::span<std::uint64_t const> seeds, sampling const& how = {}) {
  auto const colours = from.shape().colours;
  auto const values = static_cast<std::size_t>(colours * how.side * how.side);
  std::vector<float> result(values * conditions.size());
  bool const guided = how.guidance != 1;
  condition const any{static_cast<int>(from.shape().classes) - 1, {}};
  for (std::size_t begin = 0; begin < conditions.size(); begin += how.batch) {
    auto const count = std::min(how.batch, conditions.size() - begin);
    grid const where{static_cast<std::int64_t>(guided ? 2 * count : count), how.side, how.side};
    std::vector<condition> asked{conditions.begin() + static_cast<std::ptrdiff_t>(begin),
                                 conditions.begin() + static_cast<std::ptrdiff_t>(begin + count)};
    if (guided) asked.resize(2 * count, any);
    std::vector<Real> x(values * count);
    for (std::size_t i = 0; i < count; ++i)
      random_normal<Real>(seeds[begin + i], std::span{x}.subspan(i * values, values));
    auto const input = from.memory().take(colours, where), velocity = from.memory().take(colours, where);
    std::vector<Real> times(asked.size());
    for (int step = 0; step < how.steps; ++step) {
      auto const t = 1 - static_cast<Real>(step) / static_cast<Real>(how.steps);
      mixture<Real> const now{t}, next{1 - static_cast<Real>(step + 1) / static_cast<Real>(how.steps)};
      std::fill(times.begin(), times.end(), t);
      from.pool().parallel_for(where.batch, [&](std::int64_t n) {
        auto const image = std::span{x}.subspan(static_cast<std::size_t>(n) % count * values, values);
        write_image(input.view(), n, [&](std::size_t p) { return image[p]; });
      });
      from.forward(input, times, asked, velocity, false);
      from.pool().parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t n) {
        auto image = std::span{x}.subspan(static_cast<std::size_t>(n) * values, values);
        std::size_t i = 0;
        for (std::int64_t c = 0; c < colours; ++c)
          for (std::int64_t row = 0; row < how.side; ++row)
            for (std::int64_t column = 0; column < how.side; ++column, ++i) {
              auto const at = row * where.pitch() + column;
              Real v = velocity.view().image(c, n)[at];
              if (guided) {
                Real const unasked = velocity.view().image(c, n + static_cast<std::int64_t>(count))[at];
                v = unasked + static_cast<Real>(how.guidance) * (v - unasked);
              }
              // Colours outside of the range are guidance's overshoot: cut them, and let the noise make up for it.
              Real const clean = std::clamp(now.signal * image[i] - now.noise * v, Real{-1}, Real{1});
              Real const noise = (image[i] - now.signal * clean) / now.noise;
              image[i] = next.signal * clean + next.noise * noise;
            }
      });
    }
    std::transform(x.begin(), x.end(), result.begin() + static_cast<std::ptrdiff_t>(begin * values),
                   [](Real value) { return std::clamp(static_cast<float>(value), -1.0F, 1.0F); });
  }
  return result;
}

}  // namespace unet
