// SPDX-License-Identifier: Apache-2.0
#include "classifier_training.hpp"

#include <sara/backend/thread_pool.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/update/adamw.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "classifier.hpp"
#include "classifier_file.hpp"
#include "dataset.hpp"
#include "parameter.hpp"
#include "random.hpp"
#include "strips.hpp"

namespace unet {
namespace {

/// A gradient sink that moves each parameter as soon as its gradient is known, so that no gradient outlives its layer.
/// For networks whose backward pass no longer needs a weight once it has handed over the gradient.
class immediate_adamw {
 public:
  /// @param decay  of weights with more than one dimension; biases and norms never decay
  immediate_adamw(classifier<float>& of, double decay)
      : run_{of.pool(), of.memory(), true},
        parameters_{of.parameters()},
        matrix_rule_{.beta2 = 0.99, .weight_decay = decay},
        vector_rule_{.beta2 = 0.99, .weight_decay = 0} {
    for (auto const* p : parameters_) moments_.emplace_back(2 * p->values.size());
  }

  /// Sets the number of the coming step, from 1, and its rate.
  void begin(sara::update_step const& step) {
    matrix_kernel_ = matrix_rule_.kernel<float>(step);
    vector_kernel_ = vector_rule_.kernel<float>(step);
  }

  [[nodiscard]] bool wants(parameter<float> const&) const { return true; }
  void linear(parameter<float> const& p, matrix_view<float const> dy, matrix_view<float const> x) {
    gradient_.resize(p.values.size());
    as_eigen(matrix_view<float>{gradient_.data(), dy.columns, x.columns}).noalias() =
        as_eigen(dy).transpose() * as_eigen(x);
    dense(p, gradient_);
  }
  void convolution(parameter<float> const& p, strips<float const> dy, strips<float const> x,
                   convolution_geometry const& geometry) {
    gradient_.assign(p.values.size(), 0.0F);
    convolution_weight_gradient<float>(run_, dy, x, geometry, gradient_);
    dense(p, gradient_);
  }
  void dense(parameter<float> const& p, std::span<float const> gradient) {
    auto const& kernel = p.shape.size() > 1 ? matrix_kernel_ : vector_kernel_;
    auto& values = parameters_[p.index]->values;
    float* const moments = moments_[p.index].data();
    for (std::size_t i = 0; i < values.size(); ++i)
      kernel(values[i], gradient[i],
             sara::moments_of_entry<float>{moments + i, static_cast<std::int64_t>(values.size())});
  }

 private:
  context<float> run_;
  std::span<parameter<float>* const> parameters_;
  sara::adamw matrix_rule_;
  sara::adamw vector_rule_;
  sara::adamw::kernel_type<float> matrix_kernel_{};
  sara::adamw::kernel_type<float> vector_kernel_{};
  std::vector<std::vector<float>> moments_;  // of each parameter, first moments then second
  std::vector<float> gradient_;
};

}  // namespace

void augment(std::span<float const, image_size> from, std::span<float, image_size> to, std::uint64_t key) {
  constexpr int reach = 3;
  constexpr double most_noise = 0.15;
  auto const shift = [&](std::uint64_t axis) {
    return static_cast<int>(random_bits(key, axis) % (2 * reach + 1)) - reach;
  };
  int const right = shift(0), down = shift(1);
  auto const noise = static_cast<float>(most_noise * random_uniform(key, 2));
  random_normal<float>(random_bits(key, 3), to);
  for (int c = 0; c < image_channels; ++c)
    for (int y = 0; y < image_side; ++y)
      for (int x = 0; x < image_side; ++x) {
        int const row = y - down, column = x - right;
        bool const inside = row >= 0 && row < image_side && column >= 0 && column < image_side;
        auto const value = inside ? from[static_cast<std::size_t>((c * image_side + row) * image_side + column)] : 1.0F;
        auto& target = to[static_cast<std::size_t>((c * image_side + y) * image_side + x)];
        target = value + noise * target;
      }
}

accuracy measure_accuracy(classifier<float>& judge, dataset const& data, std::span<std::size_t const> pictures) {
  std::vector<float> images;
  for (std::size_t const i : pictures) images.insert(images.end(), data.image(i).begin(), data.image(i).end());
  judgement const seen = judge.judge(images);
  accuracy right;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    Eigen::Index style = 0, category = 0;
    seen.style.row(static_cast<Eigen::Index>(i)).maxCoeff(&style);
    seen.category.row(static_cast<Eigen::Index>(i)).maxCoeff(&category);
    right.style += style == data.style[pictures[i]] ? 1 : 0;
    right.category += category == data.label[pictures[i]] ? 1 : 0;
  }
  auto const count = static_cast<double>(pictures.size());
  return {right.style / count, right.category / count};
}

accuracy train_classifier(classifier_settings const& how) {
  std::vector<std::string> present;
  for (auto const& style : how.styles)
    if (std::filesystem::exists(how.data / (style + ".png"))) present.push_back(style);
  dataset const data = load_sheets(how.data, present);
  sara::thread_pool pool{how.threads};
  classifier<float> net{pool, data.styles, data.labels};
  net.initialise(how.seed);
  immediate_adamw learner{net, how.decay};
  sara::cosine_rate const schedule{
      .rate = how.rate, .steps = how.steps, .warmup = std::min<std::int64_t>(100, how.steps / 10)};

  std::vector<float> images(how.batch * image_size);
  std::vector<int> style(how.batch), label(how.batch);
  std::vector<std::size_t> order;
  double recent = 0;
  for (std::int64_t step = 0; step < how.steps; ++step) {
    for (std::size_t i = 0; i < how.batch; ++i) {
      auto const counter = static_cast<std::uint64_t>(step) * how.batch + i;
      auto const place = counter % data.train.size();
      if (place == 0) order = random_permutation(random_bits(how.seed + 1, counter), data.train.size());
      auto const picture = data.train[order[place]];
      augment(data.image(picture), std::span<float, image_size>{images.data() + i * image_size, image_size},
              random_bits(how.seed + 2, counter));
      style[i] = data.style[picture];
      label[i] = data.label[picture];
    }
    learner.begin({.t = step + 1, .rate = how.rate * schedule.factor(step)});
    auto const loss = static_cast<double>(net.loss(images, style, label, learner));
    recent = step == 0 ? loss : 0.98 * recent + 0.02 * loss;
    if ((step + 1) % 100 == 0) {
      std::printf("step %lld of %lld  loss %.3f\n", static_cast<long long>(step + 1), static_cast<long long>(how.steps),
                  recent);
      std::fflush(stdout);
    }
  }
  save_classifier(how.out, net);
  auto const right = measure_accuracy(net, data, data.held_out);
  std::printf("held-out pictures: style right %.2f, class right %.2f\n", right.style, right.category);
  return right;
}

}  // namespace unet
