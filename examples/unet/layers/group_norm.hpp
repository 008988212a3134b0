// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "../kernels.hpp"
#include "../parameter.hpp"
#include "silu.hpp"

namespace unet {

/// GroupNorm over 8 groups, then optionally scale and shift from an embedding, then optionally SiLU, in one pass:
///   y = silu((γ · (x - mean) / √(variance + ε) + β) · (1 + scale) + shift)
/// Group Normalization: Wu and He, 2018.
template <class Real>
class group_norm {
 public:
  static constexpr std::int64_t groups = 8;
  static constexpr double epsilon = 1e-5;

  group_norm(std::string const& name, std::int64_t channels, bool activate)
      : channels_{channels},
        activate_{activate},
        weight{name + ".weight", {channels}, {1, 0}},
        bias{name + ".bias", {channels}, {}} {}

  /// @param modulation  [batch, 2 · channels]: scales, then shifts; data is null for none
  void forward(context<Real> const& run, strips<Real const> const& x, strips<Real> const& y,
               matrix_view<Real const> modulation = {}) {
    auto const batch = x.grid.batch;
    mean_.resize(static_cast<std::size_t>(batch * groups));
    inverse_.resize(mean_.size());
    auto const per_group = channels_ / groups;
    run.pool.parallel_for(batch * groups, [&](std::int64_t task) {
      auto const group = task / batch, n = task % batch;
      double sum = 0, square = 0;
      for (auto c = group * per_group; c < (group + 1) * per_group; ++c) {
        sum += static_cast<double>(sum_of<Real>(x.image(c, n), x.grid.image_pitch()));
        square += static_cast<double>(dot_of<Real>(x.image(c, n), x.image(c, n), x.grid.image_pitch()));
      }
      auto const count = static_cast<double>(per_group * x.grid.pixels());
      auto const mean = sum / count;
      auto const inverse = 1 / std::sqrt(std::max(square / count - mean * mean, 0.0) + epsilon);
      mean_[at(group, n, batch)] = static_cast<Real>(mean);
      inverse_[at(group, n, batch)] = static_cast<Real>(inverse);
      for (auto c = group * per_group; c < (group + 1) * per_group; ++c) {
        auto const [slope, offset] = line(c, n, batch, modulation);
        Real const* const from = x.image(c, n);
        Real* const to = y.image(c, n);
        auto const size = x.grid.image_pitch();
        if (activate_)
          for (std::int64_t p = 0; p < size; ++p) to[p] = silu(slope * from[p] + offset);
        else
          for (std::int64_t p = 0; p < size; ++p) to[p] = slope * from[p] + offset;
        zero_padding({1, x.grid.height, x.grid.width}, to, 0, size);
      }
    });
  }

  /// @param dy           overwritten: it is the scratch memory of this pass
  /// @param x            the input of the forward pass
  /// @param dx           may be dy itself
  /// @param dmodulation  [batch, 2 · channels], overwritten; ignored without modulation
  /// @param plus         what is added to dx, maybe dx itself; nothing where its `first` is null
  template <gradient_sink<Real> Sink>
  void backward(context<Real> const& run, strips<Real> const& dy, strips<Real const> const& x, strips<Real> const& dx,
                Sink& sink, strips<Real const> const& plus = {}, matrix_view<Real const> modulation = {},
                matrix_view<Real> dmodulation = {}) {
    auto const batch = x.grid.batch;
    auto const per_group = channels_ / groups;
    auto const size = x.grid.image_pitch();
    plain_.resize(static_cast<std::size_t>(batch * channels_));
    normal_.resize(plain_.size());
    run.pool.parallel_for(batch * groups, [&](std::int64_t task) {
      auto const group = task / batch, n = task % batch;
      auto const mean = mean_[at(group, n, batch)], inverse = inverse_[at(group, n, batch)];
      // Sums over the group of the gradient of the normalised input x̂, plain and against x̂.
      Real plain{0}, normal{0};
      for (auto c = group * per_group; c < (group + 1) * per_group; ++c) {
        Real* const d = dy.image(c, n);
        Real const* const from = x.image(c, n);
        if (activate_) {
          auto const [slope, offset] = line(c, n, batch, modulation);
          for (std::int64_t p = 0; p < size; ++p) d[p] *= silu_slope(slope * from[p] + offset);
          zero_padding({1, x.grid.height, x.grid.width}, d, 0, size);  // 0 · NaN would stay there
        }
        auto const sum = sum_of<Real>(d, size);
        auto const against = inverse * (dot_of<Real>(d, from, size) - mean * sum);
        plain_[at(c, n, batch)] = sum;
        normal_[at(c, n, batch)] = against;
        plain += gain(c, n, modulation) * sum;
        normal += gain(c, n, modulation) * against;
      }
      auto const count = static_cast<Real>(per_group * x.grid.pixels());
      auto const along = -inverse * inverse * normal / count;
      auto const constant = -inverse * plain / count - along * mean;
      for (auto c = group * per_group; c < (group + 1) * per_group; ++c) {
        auto const factor = inverse * gain(c, n, modulation);
        Real const* const d = dy.image(c, n);
        Real const* const from = x.image(c, n);
        Real* const to = dx.image(c, n);
        if (plus.first)
          for (std::int64_t p = 0; p < size; ++p)
            to[p] = plus.image(c, n)[p] + (factor * d[p] + along * from[p] + constant);
        else
          for (std::int64_t p = 0; p < size; ++p) to[p] = factor * d[p] + along * from[p] + constant;
        zero_padding({1, x.grid.height, x.grid.width}, to, 0, size);
      }
    });
    finish(batch, modulation, dmodulation, sink);
  }

  template <class F>
  void each_parameter(F&& f) {
    f(weight);
    f(bias);
  }

 private:
  struct coefficients {
    Real slope;
    Real offset;
  };

  [[nodiscard]] static std::size_t at(std::int64_t channel, std::int64_t n, std::int64_t batch) {
    return static_cast<std::size_t>(channel * batch + n);
  }
  /// What x̂ is multiplied by: γ · (1 + scale).
  [[nodiscard]] Real gain(std::int64_t c, std::int64_t n, matrix_view<Real const> const& modulation) const {
    auto const gamma = weight.values[static_cast<std::size_t>(c)];
    return modulation.data ? gamma * (1 + modulation.data[n * modulation.columns + c]) : gamma;
  }
  /// The line x ↦ slope · x + offset that normalisation and modulation come to.
  [[nodiscard]] coefficients line(std::int64_t c, std::int64_t n, std::int64_t batch,
                                  matrix_view<Real const> const& modulation) const {
    auto const group = c / (channels_ / groups);
    auto const slope = gain(c, n, modulation) * inverse_[at(group, n, batch)];
    auto const beta = bias.values[static_cast<std::size_t>(c)];
    Real const* const row = modulation.data ? modulation.data + n * modulation.columns : nullptr;
    auto const constant = row ? beta * (1 + row[c]) + row[channels_ + c] : beta;
    return {slope, constant - slope * mean_[at(group, n, batch)]};
  }

  /// Gradients of γ, β, scale and shift from the sums per channel and image.
  template <class Sink>
  void finish(std::int64_t batch, matrix_view<Real const> const& modulation, matrix_view<Real> const& dmodulation,
              Sink& sink) {
    bool const wanted = sink.wants(weight) || sink.wants(bias);
    if (!wanted && !modulation.data) return;
    weight_gradient_.assign(static_cast<std::size_t>(channels_), Real{0});
    bias_gradient_.assign(static_cast<std::size_t>(channels_), Real{0});
    for (std::int64_t c = 0; c < channels_; ++c) {
      auto const channel = static_cast<std::size_t>(c);
      for (std::int64_t n = 0; n < batch; ++n) {
        auto const plain = plain_[at(c, n, batch)], normal = normal_[at(c, n, batch)];
        auto const scale = modulation.data ? 1 + modulation.data[n * modulation.columns + c] : Real{1};
        weight_gradient_[channel] += scale * normal;
        bias_gradient_[channel] += scale * plain;
        if (!modulation.data) continue;
        Real* const row = dmodulation.data + n * dmodulation.columns;
        row[c] = weight.values[channel] * normal + bias.values[channel] * plain;
        row[channels_ + c] = plain;
      }
    }
    if (sink.wants(weight)) sink.dense(weight, weight_gradient_);
    if (sink.wants(bias)) sink.dense(bias, bias_gradient_);
  }

  std::int64_t channels_;
  bool activate_;
  std::vector<Real> mean_;     // [groups, batch]
  std::vector<Real> inverse_;  // [groups, batch], 1 / √(variance + ε)
  std::vector<Real> plain_;    // [channels, batch], sums of the gradient before the activation
  std::vector<Real> normal_;   // [channels, batch], the same against x̂
  std::vector<Real> weight_gradient_;
  std::vector<Real> bias_gradient_;

 public:
  parameter<Real> weight;
  parameter<Real> bias;
};

}  // namespace unet
