// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "../kernels.hpp"
#include "../parameter.hpp"

namespace unet {

/// Splits an activation of even height and width into its four phases: channel 4i + 2a + b of the result holds the
/// pixels (2r + a, 2c + b) of channel i. A convolution of stride 2 is one of stride 1 on the phases.
template <class Real>
void split_phases(sara::thread_pool& pool, strips<Real const> const& x, strips<Real> const& phases) {
  pool.parallel_for(phases.channels, [&](std::int64_t channel) {
    auto const i = channel / 4, a = channel / 2 % 2, b = channel % 2;
    for (std::int64_t n = 0; n < x.grid.batch; ++n)
      for (std::int64_t r = 0; r < phases.grid.height; ++r) {
        Real const* const from = x.image(i, n) + (2 * r + a) * x.grid.pitch() + b;
        Real* const to = phases.image(channel, n) + r * phases.grid.pitch();
        for (std::int64_t c = 0; c < phases.grid.width; ++c) to[c] = from[2 * c];
      }
  });
}

/// The reverse of `split_phases`: writes, or adds to, the pixels of x.
template <class Real>
void join_phases(sara::thread_pool& pool, strips<Real const> const& phases, strips<Real> const& x, bool accumulate) {
  pool.parallel_for(x.channels, [&](std::int64_t i) {
    for (std::int64_t n = 0; n < x.grid.batch; ++n)
      for (std::int64_t row = 0; row < x.grid.height; ++row) {
        Real* const to = x.image(i, n) + row * x.grid.pitch();
        for (std::int64_t b = 0; b < 2; ++b) {
          Real const* const from = phases.image(4 * i + 2 * (row % 2) + b, n) + row / 2 * phases.grid.pitch();
          if (accumulate)
            for (std::int64_t c = 0; c < phases.grid.width; ++c) to[2 * c + b] += from[c];
          else
            for (std::int64_t c = 0; c < phases.grid.width; ++c) to[2 * c + b] = from[c];
        }
      }
  });
}

/// Where tap (kh, kw) of a convolution reads: which phase of the input, and how far from the output's position.
struct tap_source {
  std::int64_t phase = 0;
  std::int64_t offset = 0;
};

/// @param pitch  grid pitch of the phases, which is that of the output
[[nodiscard]] constexpr tap_source source_of_tap(convolution_geometry const& geometry, std::int64_t tap,
                                                 std::int64_t pitch) {
  auto const row = tap / geometry.kernel - geometry.padding();
  auto const column = tap % geometry.kernel - geometry.padding();
  if (geometry.stride == 1) return {0, row * pitch + column};
  // Row 2r - 1 is row r - 1 of the odd phase, 2r row r of the even phase, 2r + 1 row r of the odd phase.
  return {2 * (row & 1) + (column & 1), (row < 0 ? -pitch : 0) + (column < 0 ? -1 : 0)};
}

/// One shifted strip for each input channel and tap, in the order of a convolution weight's last three dimensions.
/// @param phases  the input itself for stride 1, its phases for stride 2
template <class Real>
void gather_sources(std::vector<Real const*>& sources, strips<Real const> const& phases,
                    convolution_geometry const& geometry) {
  auto const split = geometry.stride * geometry.stride;
  sources.clear();
  for (std::int64_t i = 0; i < phases.channels / split; ++i)
    for (std::int64_t tap = 0; tap < geometry.taps(); ++tap) {
      auto const [phase, offset] = source_of_tap(geometry, tap, phases.grid.pitch());
      sources.push_back(phases[i * split + phase] + offset);
    }
}

/// Adds the dense weight gradient of a convolution to `gradient`, [out, in, kernel, kernel].
template <class Real>
void convolution_weight_gradient(context<Real> const& run, strips<Real const> const& dy, strips<Real const> const& x,
                                 convolution_geometry const& geometry, std::span<Real> gradient) {
  thread_local std::vector<Real const*> sources;
  strip_buffer<Real> phases;
  auto input = x;
  if (geometry.stride == 2) {
    phases = run.memory.take(4 * x.channels, dy.grid);
    split_phases<Real>(run.pool, x, phases);
    input = phases;
  }
  gather_sources(sources, input, geometry);
  outer_product<Real>(run.pool, dy, sources, gradient);
}

/// Y = W ∗ X + b, kernel 1 or 3, stride 1 or 2 (kernel 3, even sizes).
template <class Real>
class convolution {
 public:
  /// @param zero  starts with weights of zero, for the last layer of a residual branch
  convolution(std::string const& name, std::int64_t in, std::int64_t out, convolution_geometry geometry,
              bool zero = false)
      : geometry_{geometry},
        in_{in},
        out_{out},
        weight{name + ".weight", {out, in, geometry.kernel, geometry.kernel}, {0, zero ? 0 : bound()}},
        bias{name + ".bias", {out}, {0, zero ? 0 : bound()}} {}

  /// @param y  [batch, out, height / stride, width / stride]
  /// @param plus  what is added to y, maybe y itself; nothing where its `first` is null
  void forward(context<Real> const& run, strips<Real const> const& x, strips<Real> const& y,
               strips<Real const> const& plus = {}) {
    strip_buffer<Real> phases;
    auto input = x;
    if (geometry_.stride == 2) {
      phases = run.memory.take(4 * in_, y.grid);
      split_phases<Real>(run.pool, x, phases);
      input = phases;
    }
    gather_sources(sources_, input, geometry_);
    auto const taps = geometry_.taps();
    taps_.resize(static_cast<std::size_t>(taps));
    std::iota(taps_.begin(), taps_.end(), 0);
    pack_weights<Real>(run.pool, packed_, {weight.values.data(), out_, in_ * taps, in_, taps, taps_});
    shifted_product<Real>(run.pool, sources_, packed_, bias.values, y, plus);
  }

  /// Gradient of the input alone.
  void backward_input(context<Real> const& run, strips<Real const> const& dy, strips<Real> const& dx,
                      bool accumulate = false) {
    if (geometry_.stride == 1) return backward_phase(run, dy, dx, 0, accumulate);
    auto const phases = run.memory.take(4 * in_, dy.grid);
    for (std::int64_t phase = 0; phase < 4; ++phase) {
      strips<Real> every_fourth{phases.view()[phase], in_, 4 * phases.view().pitch, dy.grid};
      backward_phase(run, dy, every_fourth, phase, false);
    }
    join_phases<Real>(run.pool, phases, dx, accumulate);
  }

  /// Hands weight and bias gradients to the sink.
  /// @param x  the input of the forward pass
  template <gradient_sink<Real> Sink>
  void backward_weight(context<Real> const& run, strips<Real const> const& dy, strips<Real const> const& x,
                       Sink& sink) {
    if (sink.wants(weight)) sink.convolution(weight, dy, x, geometry_);
    if (!sink.wants(bias)) return;
    bias_gradient_.resize(static_cast<std::size_t>(out_));
    run.pool.parallel_for(out_, [&](std::int64_t o) {
      bias_gradient_[static_cast<std::size_t>(o)] = sum_of<Real>(dy[o], dy.grid.size());
    });
    sink.dense(bias, bias_gradient_);
  }

  template <class F>
  void each_parameter(F&& f) {
    f(weight);
    f(bias);
  }

 private:
  [[nodiscard]] double bound() const { return 1 / std::sqrt(static_cast<double>(in_ * geometry_.taps())); }

  /// dX[i][p] = Σ_{o, taps that read this phase} W[o, i, tap] · dY[o][p - offset].
  void backward_phase(context<Real> const& run, strips<Real const> const& dy, strips<Real> const& dx,
                      std::int64_t phase, bool accumulate) {
    taps_.clear();
    for (std::int64_t tap = 0; tap < geometry_.taps(); ++tap)
      if (source_of_tap(geometry_, tap, dy.grid.pitch()).phase == phase) taps_.push_back(tap);
    sources_.clear();
    for (std::int64_t o = 0; o < out_; ++o)
      for (auto const tap : taps_) sources_.push_back(dy[o] - source_of_tap(geometry_, tap, dy.grid.pitch()).offset);
    auto const taps = geometry_.taps();
    pack_weights<Real>(run.pool, packed_, {weight.values.data(), in_, taps, out_, in_ * taps, taps_});
    shifted_product<Real>(run.pool, sources_, packed_, {}, dx, accumulate ? dx : strips<Real>{});
  }

  convolution_geometry geometry_;
  std::int64_t in_;
  std::int64_t out_;
  std::vector<Real const*> sources_;
  std::vector<std::int64_t> taps_;
  std::vector<Real> packed_;
  std::vector<Real> bias_gradient_;

 public:
  parameter<Real> weight;
  parameter<Real> bias;
};

}  // namespace unet
