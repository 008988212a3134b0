// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "dataset.hpp"
#include "dense_gradients.hpp"
#include "diffusion.hpp"

namespace unet {

/// AdamW over all parameters with decoupled decay on matrices, and the moving average of the weights.
/// Decoupled Weight Decay Regularization: Loshchilov and Hutter, 2017.
class dense_adamw {
 public:
  struct settings {
    double beta1 = 0.9;
    double beta2 = 0.99;
    double epsilon = 1e-8;
    double decay = 0.01;
    double clip = 1.0;       ///< largest norm of the gradient
    double average = 0.999;  ///< decay of the moving average, less in the first steps
  };

  dense_adamw(model<float>& of, settings const& how) : model_{of}, how_{how} {
    for (auto const* p : of.parameters()) {
      first_.emplace_back(p->values.size());
      second_.emplace_back(p->values.size());
      average_.push_back(p->values);
    }
  }

  /// @param rate  of this step
  /// @return  norm of the gradient before clipping
  double step(dense_gradients<float>& gradients, double rate) {
    ++steps_;
    auto const norm = gradients.norm();
    auto const scale = static_cast<float>(norm > how_.clip ? how_.clip / norm : 1.0);
    auto const beta1 = static_cast<float>(how_.beta1), beta2 = static_cast<float>(how_.beta2);
    auto const correction1 = 1 / (1 - std::pow(how_.beta1, static_cast<double>(steps_))),
               correction2 = 1 / (1 - std::pow(how_.beta2, static_cast<double>(steps_)));
    auto const size = static_cast<float>(rate * correction1);
    auto const root = static_cast<float>(std::sqrt(correction2)), epsilon = static_cast<float>(how_.epsilon);
    auto const keep = static_cast<float>(
        std::min(how_.average, (1.0 + static_cast<double>(steps_)) / (10.0 + static_cast<double>(steps_))));
    auto const parameters = model_.parameters();
    model_.pool().parallel_for(static_cast<std::int64_t>(parameters.size()), [&](std::int64_t task) {
      auto const i = static_cast<std::size_t>(task);
      auto& p = *parameters[i];
      auto const shrink = static_cast<float>(p.shape.size() > 1 ? 1 - rate * how_.decay : 1.0);
      float* const w = p.values.data();
      float* const m = first_[i].data();
      float* const v = second_[i].data();
      float* const mean = average_[i].data();
      float const* const gradient = gradients[i].data();
      for (std::size_t j = 0; j < p.values.size(); ++j) {
        float const g = scale * gradient[j];
        m[j] = beta1 * m[j] + (1 - beta1) * g;
        v[j] = beta2 * v[j] + (1 - beta2) * g * g;
        w[j] = shrink * w[j] - size * m[j] / (root * std::sqrt(v[j]) + epsilon);
        mean[j] = keep * mean[j] + (1 - keep) * w[j];
      }
    });
    return norm;
  }

  [[nodiscard]] std::int64_t steps() const { return steps_; }

  /// Exchanges the weights with their moving average; twice is nothing.
  void swap_average() {
    for (auto* p : model_.parameters()) p->values.swap(average_[p->index]);
  }

  void save(std::filesystem::path const& file) const {
    sara::safetensors_writer out;
    for (auto const* p : model_.parameters()) {
      out.add(p->name, p->values);
      out.add("first." + p->name, first_[p->index]);
      out.add("second." + p->name, second_[p->index]);
      out.add("average." + p->name, average_[p->index]);
    }
    out.set_metadata("steps", std::to_string(steps_));
    out.write(file);
  }

  void load(std::filesystem::path const& file) {
    auto const in = sara::safetensors::load(file);
    for (auto* p : model_.parameters()) {
      auto const size = static_cast<std::int64_t>(p->values.size());
      p->values = in.read<float>(p->name, size);
      first_[p->index] = in.read<float>("first." + p->name, size);
      second_[p->index] = in.read<float>("second." + p->name, size);
      average_[p->index] = in.read<float>("average." + p->name, size);
    }
    steps_ = std::stoll(in.metadata("steps"));
  }

 private:
  model<float>& model_;
  settings how_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<float>> first_;
  std::vector<std::vector<float>> second_;
  std::vector<std::vector<float>> average_;
};

/// Draws training batches without replacement, epoch by epoch, by counting: step n is the same whoever asks.
class batch_stream {
 public:
  struct settings {
    std::size_t batch = 32;
    std::uint64_t seed = 0;
    double drop_label = 0.1;    ///< share of pictures shown as "any class"
    double drop_caption = 0.2;  ///< share shown without a caption
  };

  batch_stream(dataset const& data, settings const& how) : data_{data}, how_{how} {}

  void fill(noisy_batch<float>& batch, std::int64_t step) {
    batch.clear();
    for (std::size_t i = 0; i < how_.batch; ++i) {
      auto const counter = static_cast<std::uint64_t>(step) * how_.batch + i;
      auto const picture = at(counter);
      auto const draw = [&](std::uint64_t what) { return random_uniform(how_.seed + what, counter); };
      bool const unlabelled = draw(1) < how_.drop_label, silent = draw(2) < how_.drop_caption;
      batch.images.push_back(data_.image(picture));
      batch.conditions.push_back({unlabelled ? null_class : data_.label[picture],
                                  silent ? std::span<int const>{} : std::span<int const>{data_.tokens[picture]}});
      // Stratified: one time in each of the batch's equal parts of [0, 1].
      batch.times.push_back(static_cast<float>((static_cast<double>(i) + draw(3)) / static_cast<double>(how_.batch)));
      batch.noise.push_back(random_bits(how_.seed + 4, counter));
    }
  }

 private:
  [[nodiscard]] std::size_t at(std::uint64_t counter) {
    auto const size = data_.train.size();
    auto const epoch = counter / size;
    if (order_.empty() || epoch != epoch_) {
      order_ = random_permutation(random_bits(how_.seed + 5, epoch), size);
      epoch_ = epoch;
    }
    return data_.train[order_[counter % size]];
  }

  dataset const& data_;
  settings how_;
  std::uint64_t epoch_ = 0;
  std::vector<std::size_t> order_;
};

/// Mean v-loss over the given pictures, each at `times` stratified times with fixed noise: the same question to every
/// model. Labels and captions are given.
inline double mean_velocity_loss(model<float>& of, dataset const& data, std::span<std::size_t const> pictures,
                                 int times = 4) {
  velocity_loss<float> loss{of};
  noisy_batch<float> batch;
  double sum = 0;
  auto const count = pictures.size() * static_cast<std::size_t>(times);
  for (std::size_t begin = 0; begin < count; begin += 64) {
    batch.clear();
    for (auto i = begin; i < std::min(begin + 64, count); ++i) {
      auto const picture = pictures[i % pictures.size()];
      batch.images.push_back(data.image(picture));
      batch.conditions.push_back({data.label[picture], data.tokens[picture]});
      // The golden ratio spreads each picture's times evenly, and the times of all pictures too.
      auto const turn = static_cast<double>(i) * std::numbers::phi;
      batch.times.push_back(static_cast<float>(turn - std::floor(turn)));
      batch.noise.push_back(random_bits(0x7e57, i));
    }
    for (double const one : loss.evaluate(batch, image_side)) sum += one;
  }
  return sum / static_cast<double>(count);
}

struct pretrain_settings {
  std::filesystem::path data;
  std::filesystem::path out;
  std::filesystem::path from;  ///< a checkpoint to go on from with a fresh schedule; empty to start from nothing
  std::vector<std::string> styles = {"noto", "twemoji", "fluent-flat", "fluent-3d", "blob"};
  std::int64_t steps = 4000;
  std::size_t batch = 32;
  std::uint64_t seed = 1;
  double rate = 1e-3;
  std::int64_t warm_up = 100;
  int threads = 0;
};

/// Starts a network from a checkpoint's weights.
/// @throws std::invalid_argument  if the checkpoint knows other words, or has other sizes
inline void copy_weights(checkpoint const& from, vocabulary const& words, model<float>& to) {
  auto const source = from.model->parameters();
  bool fits = from.words.words() == words.words() && source.size() == to.parameters().size();
  for (std::size_t i = 0; fits && i < source.size(); ++i) fits = source[i]->shape == to.parameters()[i]->shape;
  if (!fits) throw std::invalid_argument{"pretrain: expected a checkpoint of this network and these words, got another"};
  for (std::size_t i = 0; i < source.size(); ++i) to.parameters()[i]->values = source[i]->values;
}

/// Trains the base model from nothing or from a checkpoint, or goes on where `<out>.state` stopped.
/// Every 500 steps and on Ctrl-C it prints the held-out loss of the averaged weights and writes both files.
inline void pretrain(pretrain_settings const& how) {
  using clock = std::chrono::steady_clock;
  static volatile std::sig_atomic_t stop = 0;
  auto const previous = std::signal(SIGINT, [](int) { stop = 1; });

  sara::thread_pool pool{how.threads};
  auto data = load_sheets(how.data, how.styles);
  auto const texts = data.training_texts();
  auto const words = vocabulary::of(texts);
  data.tokenize(words);
  model<float> net{pool, {.words = words.size()}};
  if (how.from.empty())
    net.initialise(how.seed);
  else
    copy_weights(load_checkpoint(how.from, pool), words, net);
  dense_gradients<float> gradients{net};
  dense_adamw optimizer{net, {}};
  auto state = how.out;
  state += ".state";
  if (std::filesystem::exists(state)) optimizer.load(state);
  std::printf("%zu pictures to learn from, %zu held out, %lld parameters, %d words; step %lld of %lld\n",
              data.train.size(), data.held_out.size(), static_cast<long long>(net.parameter_count()), words.size(),
              static_cast<long long>(optimizer.steps()), static_cast<long long>(how.steps));

  velocity_loss<float> loss{net};
  batch_stream stream{data, {.batch = how.batch, .seed = how.seed}};
  noisy_batch<float> batch;
  double recent = 0;
  auto const begin = optimizer.steps();
  auto const start = clock::now();
  for (auto step = begin; step < how.steps && !stop; ++step) {
    stream.fill(batch, step);
    gradients.clear();
    double mean = 0;
    for (double const one : loss.differentiate(batch, image_side, gradients))
      mean += one / static_cast<double>(how.batch);
    auto const progress = static_cast<double>(step) / static_cast<double>(how.steps);
    auto const rate = how.rate * std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(how.warm_up)) * 0.5 *
                      (1 + std::cos(progress * std::numbers::pi));
    optimizer.step(gradients, rate);
    recent = step == begin ? mean : 0.98 * recent + 0.02 * mean;
    auto const done = step + 1;
    if (done % 50 == 0) {
      auto const seconds = std::chrono::duration<double>(clock::now() - start).count();
      auto const speed = static_cast<double>(done - begin) / seconds;
      std::printf("step %lld  loss %.4f  rate %.2e  %.2f steps/s  %.0f min left\n", static_cast<long long>(done),
                  recent, rate, speed, static_cast<double>(how.steps - done) / speed / 60);
    }
    if (done % 500 == 0 || done == how.steps || stop) {
      optimizer.save(state);
      optimizer.swap_average();
      save_checkpoint(how.out, net, words);
      std::printf("step %lld  held-out loss %.4f\n", static_cast<long long>(done),
                  mean_velocity_loss(net, data, data.held_out));
      optimizer.swap_average();
    }
    std::fflush(stdout);
  }
  std::signal(SIGINT, previous);
}

}  // namespace unet
