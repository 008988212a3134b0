// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "layers/condition.hpp"
#include "layers/residual_block.hpp"
#include "parameter.hpp"
#include "random.hpp"
#include "strips.hpp"

namespace unet {

/// Sizes of the network; the defaults are those of the shipped base model.
struct model_shape {
  std::vector<std::int64_t> channels = {32, 64, 128, 192};  ///< at full resolution, half of it, …; multiples of 8
  std::int64_t colours = 3;
  std::int64_t embedding = 192;
  std::int64_t classes = 32;  ///< the class for "any" included
  std::int64_t words = 0;
  std::int64_t attention_from = 2;  ///< the first level with attention
};

/// A UNet that predicts the velocity v of a diffusion: v(x_t, t, class, caption).
///
/// One stage a level on the way down and up and one in the middle; strided convolutions down, 1x1 convolution and
/// nearest neighbour up, the way down's output concatenated. Strips lie channel after channel, so concatenation is
/// two writers into one buffer. Denoising Diffusion Probabilistic Models: Ho et al., 2020, is the pattern.
/// @tparam Layers  what it is made of, and where it is computed: machine, memory, layers, and the type of numbers.
///                 `host_layers` is the example of such a set; the wiring is here, once for all of them.
template <class Layers>
class basic_model {
  using context = typename Layers::context;
  using activation = typename Layers::activation;
  using const_activation = typename Layers::const_activation;
  using buffer = typename Layers::buffer;

 public:
  using layers = Layers;
  using real = typename Layers::real;
  using parameter_type = typename Layers::parameter;

  /// The machine must outlive the model.
  basic_model(typename Layers::machine& machine, model_shape const& shape)
      : machine_{machine},
        memory_(Layers::make_memory(machine)),
        shape_{shape},
        embedding_{shape.embedding, shape.classes, shape.words},
        conv_in_{"conv_in", shape.colours, shape.channels.front(), {3, 1}},
        middle_{"middle", shape.channels.back(), shape.channels.back(), shape.embedding, true},
        norm_out_{"norm_out", shape.channels.front(), true},
        conv_out_{"conv_out", shape.channels.front(), shape.colours, {3, 1}, true} {
    auto const& c = shape.channels;
    for (std::size_t l = 0; l < c.size(); ++l) {
      auto const name = "down." + std::to_string(l);
      bool const attend = static_cast<std::int64_t>(l) >= shape.attention_from;
      if (l > 0) shrink_.emplace_back(name + ".shrink", c[l - 1], c[l - 1], convolution_geometry{3, 2});
      down_.emplace_back(name, l > 0 ? c[l - 1] : c[0], c[l], shape.embedding, attend);
      if (l + 1 == c.size()) continue;
      auto const up = "up." + std::to_string(l);
      narrow_.emplace_back(up + ".narrow", c[l + 1], c[l], convolution_geometry{1, 1});
      up_.emplace_back(up, 2 * c[l], c[l], shape.embedding, attend);
    }
    each_layer([this](auto& part) {
      part.each_parameter([this](parameter_type& p) {
        p.index = parameters_.size();
        parameters_.push_back(&p);
      });
    });
  }
  basic_model(basic_model const&) = delete;
  basic_model& operator=(basic_model const&) = delete;

  /// All parameters, in a fixed order; the pointers are good for the life of the model.
  [[nodiscard]] std::span<parameter_type* const> parameters() const { return parameters_; }
  [[nodiscard]] model_shape const& shape() const { return shape_; }
  /// The threads of the host, whatever machine computes.
  [[nodiscard]] sara::thread_pool& pool() const { return Layers::pool(machine_); }
  [[nodiscard]] typename Layers::memory& memory() { return memory_; }
  /// What a pass needs.
  [[nodiscard]] context run(bool training = true) { return {machine_, memory_, training}; }

  [[nodiscard]] std::int64_t parameter_count() const {
    std::int64_t count = 0;
    for (auto const* p : parameters_) count += p->size();
    return count;
  }

  void initialise(std::uint64_t seed) {
    for (auto* p : parameters_) p->initialise(random_bits(seed, p->index));
  }

  /// Predicts velocities.
  /// @param x           [batch, colours, height, width], height and width divisible by 2^(levels - 1)
  /// @param times       [batch], in [0, 1]
  /// @param conditions  [batch]
  /// @param v           like x, overwritten
  /// @param training    keeps what `backward` needs; x and the conditions' tokens must then live until it
  /// The bits depend on neither the number of threads nor the other pictures of the batch.
  void forward(const_activation const& x, std::span<real const> times, std::span<condition const> conditions,
               activation const& v, bool training) {
    check(x);
    auto const run = this->run(training);
    auto const& c = shape_.channels;
    auto const levels = c.size();
    auto const embedded = embedding_.forward(run, times, conditions);
    x_ = x;
    grids_.assign(1, x.grid);
    while (grids_.size() < levels) grids_.push_back(grids_.back().halved());
    joined_.resize(levels);
    inputs_.resize(levels);
    up_out_.resize(levels);

    for (std::size_t l = 0; l < levels; ++l) {
      // The last level's output has nobody to be joined with.
      bool const last = l + 1 == levels;
      joined_[l] = memory_.take(last ? c[l] : 2 * c[l], grids_[l]);
      inputs_[l] = memory_.take(l > 0 ? c[l - 1] : c[0], grids_[l]);
      if (l == 0)
        conv_in_.forward(run, x, inputs_[l]);
      else
        layer(shrink_, l - 1).forward(run, skipped(l - 1), inputs_[l]);
      layer(down_, l).forward(run, inputs_[l], embedded, skipped(l));
      if (!training) inputs_[l].reset();
    }
    up_out_[levels - 1] = memory_.take(c.back(), grids_.back());
    middle_.forward(run, skipped(levels - 1), embedded, up_out_[levels - 1]);
    if (!training) joined_[levels - 1].reset();
    for (auto l = levels - 1; l-- > 0;) {
      {
        auto const narrowed = memory_.take(c[l], grids_[l + 1]);
        layer(narrow_, l).forward(run, up_out_[l + 1], narrowed);
        Layers::enlarge(run, narrowed, joined_[l].view().slice(0, c[l]));
      }
      if (!training) up_out_[l + 1].reset();
      up_out_[l] = memory_.take(c[l], grids_[l]);
      layer(up_, l).forward(run, joined_[l], embedded, up_out_[l]);
      if (!training) joined_[l].reset();
    }
    active_ = memory_.take(c[0], x.grid);
    norm_out_.forward(run, up_out_[0], active_);
    conv_out_.forward(run, active_, v);
    if (!training) {
      up_out_[0].reset();
      active_.reset();
    }
  }

  /// Gradients of Σ v · dv after a forward pass with `training`; hands them to the sink layer by layer.
  /// @param dv    gradient of the velocities, padding zero
  /// @param sink  a gradient_sink for what these layers hand over
  template <class Sink>
  void backward(const_activation const& dv, Sink& sink) {
    auto const run = this->run();
    auto const& c = shape_.channels;
    auto const levels = c.size();
    auto const dembedded = embedding_.gradient(run);

    conv_out_.backward_weight(run, dv, active_, sink);
    active_.reset();
    auto d = memory_.take(c[0], dv.grid);
    conv_out_.backward_input(run, dv, d);
    norm_out_.backward(run, d, up_out_[0], d, sink);
    std::vector<buffer> djoined(levels);
    for (std::size_t l = 0; l + 1 < levels; ++l) {
      up_out_[l].reset();
      djoined[l] = memory_.take(2 * c[l], grids_[l]);
      layer(up_, l).backward(run, d, djoined[l], dembedded, sink);
      auto const dnarrowed = memory_.take(c[l], grids_[l + 1]);
      Layers::enlarge_backward(run, djoined[l].view().slice(0, c[l]), dnarrowed);
      layer(narrow_, l).backward_weight(run, dnarrowed, up_out_[l + 1], sink);
      d = memory_.take(c[l + 1], grids_[l + 1]);
      layer(narrow_, l).backward_input(run, dnarrowed, d);
    }
    up_out_[levels - 1].reset();
    djoined[levels - 1] = memory_.take(c.back(), grids_.back());
    middle_.backward(run, d, djoined[levels - 1], dembedded, sink);
    for (auto l = levels; l-- > 0;) {
      auto const& joined = djoined[l].view();
      d = memory_.take(inputs_[l].view().channels, grids_[l]);
      layer(down_, l).backward(run, joined.slice(joined.channels - c[l], c[l]), d, dembedded, sink);
      djoined[l].reset();
      joined_[l].reset();
      inputs_[l].reset();
      if (l == 0) {
        conv_in_.backward_weight(run, d, x_, sink);
      } else {
        layer(shrink_, l - 1).backward_weight(run, d, skipped(l - 1), sink);
        layer(shrink_, l - 1).backward_input(run, d, djoined[l - 1].view().slice(c[l - 1], c[l - 1]), true);
      }
    }
    embedding_.backward(run, sink);
  }

 private:
  template <class F>
  void each_layer(F&& f) {
    f(embedding_);
    f(conv_in_);
    for (std::size_t l = 0; l < down_.size(); ++l) {
      if (l > 0) f(layer(shrink_, l - 1));
      f(layer(down_, l));
    }
    f(middle_);
    for (auto l = up_.size(); l-- > 0;) {
      f(layer(narrow_, l));
      f(layer(up_, l));
    }
    f(norm_out_);
    f(conv_out_);
  }

  template <class Layer>
  [[nodiscard]] static Layer& layer(std::list<Layer>& list, std::size_t i) {
    return *std::next(list.begin(), static_cast<std::ptrdiff_t>(i));
  }

  /// The output of a level on the way down: the last channels of its joined buffer.
  [[nodiscard]] activation skipped(std::size_t l) const {
    auto const& all = joined_[l].view();
    return all.slice(all.channels - shape_.channels[l], shape_.channels[l]);
  }

  void check(const_activation const& x) const {
    auto const multiple = std::int64_t{1} << (shape_.channels.size() - 1);
    if (x.channels != shape_.colours || x.grid.height % multiple != 0 || x.grid.width % multiple != 0)
      throw std::invalid_argument{"model: expected " + std::to_string(shape_.colours) +
                                  " channels and sides divisible by " + std::to_string(multiple) + ", got " +
                                  std::to_string(x.channels) + " of " + std::to_string(x.grid.height) + "x" +
                                  std::to_string(x.grid.width)};
  }

  typename Layers::machine& machine_;
  typename Layers::memory memory_;  // before the layers, which hold parts of it
  model_shape shape_;
  typename Layers::embedding embedding_;
  typename Layers::convolution conv_in_;
  std::list<typename Layers::convolution> shrink_;  // lists, because parameters must not move
  std::list<basic_stage<Layers>> down_;
  basic_stage<Layers> middle_;
  std::list<typename Layers::convolution> narrow_;
  std::list<basic_stage<Layers>> up_;
  typename Layers::group_norm norm_out_;
  typename Layers::convolution conv_out_;
  std::vector<parameter_type*> parameters_;

  std::vector<grid> grids_;  // of each level
  const_activation x_;
  std::vector<buffer> inputs_;  // what enters each stage on the way down
  std::vector<buffer> joined_;  // the way up's half, then the way down's
  std::vector<buffer> up_out_;  // what leaves the middle and each stage on the way up
  buffer active_;
};

}  // namespace unet
