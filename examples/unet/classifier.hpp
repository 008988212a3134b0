// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dataset.hpp"
#include "evaluate.hpp"
#include "host_layers.hpp"
#include "layers/convolution.hpp"
#include "layers/group_norm.hpp"
#include "layers/linear.hpp"
#include "parameter.hpp"
#include "strips.hpp"

namespace unet {

/// Says in which style a 32×32 picture is drawn and what class of thing it shows; the judge of samples.
///
/// Six stages of convolution, GroupNorm and SiLU down to 4×4, the mean over the pixels as the feature vector, and one
/// linear head each for style and class.
template <class Real>
class classifier {
 public:
  static constexpr std::int64_t feature_count = 96;
  /// What a feature of one is; only a convention, which puts unlike styles a Fréchet distance of some 260 apart.
  static constexpr float feature_unit = 0.55F;

  /// The pool must outlive the classifier.
  /// @param styles   names of the styles, in the order of their numbers
  /// @param classes  names of the classes, likewise
  classifier(sara::thread_pool& pool, std::vector<std::string> styles, std::vector<std::string> classes)
      : pool_{pool},
        styles_{std::move(styles)},
        classes_{std::move(classes)},
        style_head_{"style", feature_count, static_cast<std::int64_t>(styles_.size())},
        class_head_{"class", feature_count, static_cast<std::int64_t>(classes_.size())} {
    each_parameter([this](parameter<Real>& p) {
      p.index = parameters_.size();
      parameters_.push_back(&p);
    });
  }
  classifier(classifier const&) = delete;
  classifier& operator=(classifier const&) = delete;

  /// All parameters, in a fixed order; the pointers are good for the life of the classifier.
  [[nodiscard]] std::span<parameter<Real>* const> parameters() const { return parameters_; }
  [[nodiscard]] sara::thread_pool& pool() const { return pool_; }
  [[nodiscard]] workspace<Real>& memory() { return memory_; }
  [[nodiscard]] std::vector<std::string> const& styles() const { return styles_; }
  [[nodiscard]] std::vector<std::string> const& classes() const { return classes_; }

  /// Number of a style, none if the classifier was not trained on it.
  [[nodiscard]] std::optional<int> style_number(std::string const& name) const {
    auto const found = std::find(styles_.begin(), styles_.end(), name);
    if (found == styles_.end()) return std::nullopt;
    return static_cast<int>(found - styles_.begin());
  }

  void initialise(std::uint64_t seed) {
    for (auto* p : parameters_) p->initialise(random_bits(seed, p->index));
  }

  /// Features, in units of `feature_unit`, and probabilities of images.
  /// @param images  [n, 3, 32, 32], in [-1, 1]
  /// @par Memory  the activations of 64 images
  [[nodiscard]] judgement judge(std::span<float const> images) {
    constexpr std::int64_t batch = 64;
    auto const count = static_cast<std::int64_t>(images.size() / image_size);
    judgement result{image_rows(count, feature_count), image_rows(count, static_cast<Eigen::Index>(styles_.size())),
                     image_rows(count, static_cast<Eigen::Index>(classes_.size()))};
    for (std::int64_t begin = 0; begin < count; begin += batch) {
      auto const rows = std::min(batch, count - begin);
      activations const seen = forward(
          images.subspan(static_cast<std::size_t>(begin) * image_size, static_cast<std::size_t>(rows) * image_size));
      result.features.middleRows(begin, rows) = seen.features.template cast<float>() / feature_unit;
      result.style.middleRows(begin, rows) = softmax(seen.style).template cast<float>();
      result.category.middleRows(begin, rows) = softmax(seen.category).template cast<float>();
    }
    return result;
  }

  /// Mean over the images of both heads' cross entropies; its gradients go to the sink.
  /// @param images   [n, 3, 32, 32], in [-1, 1]
  /// @param style    [n], numbers of styles
  /// @param label    [n], numbers of classes
  template <gradient_sink<Real> Sink>
  Real loss(std::span<float const> images, std::span<int const> style, std::span<int const> label, Sink& sink) {
    activations seen = forward(images);
    row_major<Real> dstyle = softmax(seen.style), dcategory = softmax(seen.category);
    Real const total = cross_entropy(dstyle, style) + cross_entropy(dcategory, label);
    backward(seen, dstyle, dcategory, sink);
    return total;
  }

 private:
  struct stage {
    stage(std::string const& name, std::int64_t in, std::int64_t out, std::int64_t stride_of)
        : channels{out},
          stride{stride_of},
          conv{name + ".conv", in, out, {3, stride_of}},
          norm{name + ".norm", out, true} {}

    std::int64_t channels;
    std::int64_t stride;
    convolution<Real> conv;
    group_norm<Real> norm;
  };

  struct activations {
    std::vector<strip_buffer<Real>> inputs;  ///< of each stage, then what leaves the last
    std::vector<strip_buffer<Real>> plain;   ///< of each stage, before GroupNorm
    row_major<Real> features;                ///< [n, feature_count]
    row_major<Real> style;                   ///< [n, styles], logits
    row_major<Real> category;                ///< [n, classes], logits
  };

  [[nodiscard]] static matrix_view<Real> view(row_major<Real>& m) { return {m.data(), m.rows(), m.cols()}; }

  [[nodiscard]] context<Real> run() { return {pool_, memory_, true}; }

  [[nodiscard]] activations forward(std::span<float const> images) {
    activations seen;
    seen.inputs.push_back(
        memory_.take(image_channels, {static_cast<std::int64_t>(images.size() / image_size), image_side, image_side}));
    for (std::int64_t n = 0; n < seen.inputs[0].view().grid.batch; ++n) {
      auto const image = images.subspan(static_cast<std::size_t>(n) * image_size, image_size);
      write_image(seen.inputs[0].view(), n, [&](std::size_t i) { return static_cast<Real>(image[i]); });
    }
    for (auto& each : stages_) {
      auto const& x = seen.inputs.back().view();
      auto const where = each.stride == 2 ? x.grid.halved() : x.grid;
      auto plain = memory_.take(each.channels, where);
      auto y = memory_.take(each.channels, where);
      each.conv.forward(run(), x, plain);
      each.norm.forward(run(), plain, y);
      seen.plain.push_back(std::move(plain));
      seen.inputs.push_back(std::move(y));
    }
    auto const& last = seen.inputs.back().view();
    auto const batch = last.grid.batch;
    seen.features.resize(batch, feature_count);
    for (std::int64_t n = 0; n < batch; ++n)
      for (std::int64_t c = 0; c < feature_count; ++c)
        seen.features(n, c) =
            sum_of<Real>(last.image(c, n), last.grid.image_pitch()) / static_cast<Real>(last.grid.pixels());
    seen.style.resize(batch, static_cast<Eigen::Index>(styles_.size()));
    seen.category.resize(batch, static_cast<Eigen::Index>(classes_.size()));
    style_head_.forward(run(), view(seen.features), view(seen.style));
    class_head_.forward(run(), view(seen.features), view(seen.category));
    return seen;
  }

  template <class Sink>
  void backward(activations& seen, row_major<Real>& dstyle, row_major<Real>& dcategory, Sink& sink) {
    // Weight gradients come last in each layer: the sink may move the weights at once.
    row_major<Real> dfeatures(seen.features.rows(), feature_count);
    style_head_.backward_input(run(), view(dstyle), view(dfeatures));
    class_head_.backward_input(run(), view(dcategory), view(dfeatures), true);
    style_head_.backward_weight(run(), view(dstyle), view(seen.features), sink);
    class_head_.backward_weight(run(), view(dcategory), view(seen.features), sink);

    auto const where = seen.inputs.back().view().grid;
    auto d = memory_.take(feature_count, where);
    for (std::int64_t c = 0; c < feature_count; ++c) {
      for (std::int64_t n = 0; n < where.batch; ++n)
        std::fill_n(d.view().image(c, n), where.image_pitch(), dfeatures(n, c) / static_cast<Real>(where.pixels()));
      zero_padding(where, d.view()[c], 0, where.size());
    }
    for (std::size_t i = stages_.size(); i-- > 0;) {
      auto& each = stages_[i];
      each.norm.backward(run(), d, seen.plain[i], d, sink);
      strip_buffer<Real> dx;
      if (i > 0) {
        auto const& x = seen.inputs[i].view();
        dx = memory_.take(x.channels, x.grid);
        each.conv.backward_input(run(), d, dx);
      }
      each.conv.backward_weight(run(), d, seen.inputs[i], sink);
      d = std::move(dx);
    }
  }

  [[nodiscard]] static row_major<Real> softmax(row_major<Real> const& logits) {
    row_major<Real> p = (logits.colwise() - logits.rowwise().maxCoeff()).array().exp().matrix();
    p.array().colwise() /= p.rowwise().sum().array().eval();
    return p;
  }

  /// Mean of -log p of the right answers; turns the probabilities into the gradient of the logits.
  [[nodiscard]] static Real cross_entropy(row_major<Real>& p, std::span<int const> right) {
    Real total{0};
    auto const share = 1 / static_cast<Real>(p.rows());
    for (Eigen::Index n = 0; n < p.rows(); ++n) {
      auto& answer = p(n, right[static_cast<std::size_t>(n)]);
      total -= share * std::log(answer);
      answer -= 1;
    }
    p *= share;
    return total;
  }

  template <class F>
  void each_parameter(F&& f) {
    for (auto& each : stages_) {
      each.conv.each_parameter(f);
      each.norm.each_parameter(f);
    }
    style_head_.each_parameter(f);
    class_head_.each_parameter(f);
  }

  sara::thread_pool& pool_;
  workspace<Real> memory_;
  std::vector<std::string> styles_;
  std::vector<std::string> classes_;
  std::array<stage, 6> stages_{{{"stage.0", image_channels, 24, 1},
                                {"stage.1", 24, 32, 2},
                                {"stage.2", 32, 32, 1},
                                {"stage.3", 32, 64, 2},
                                {"stage.4", 64, 64, 1},
                                {"stage.5", 64, feature_count, 2}}};
  linear<Real> style_head_;
  linear<Real> class_head_;
  std::vector<parameter<Real>*> parameters_;
};

}  // namespace unet
