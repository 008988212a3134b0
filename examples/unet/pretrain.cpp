// SPDX-License-Identifier: Apache-2.0
#include "pretrain.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <numbers>
#include <stdexcept>

#include "assess.hpp"
#include "batches.hpp"
#include "checkpoint.hpp"
#include "dataset.hpp"
#include "dense_adamw.hpp"
#include "dense_gradients.hpp"
#include "diffusion.hpp"

namespace unet {
namespace {

/// Starts a network from a checkpoint's weights.
/// @throws std::invalid_argument  if the checkpoint knows other words, or has other sizes
void copy_weights(checkpoint const& from, vocabulary const& words, model<float>& to) {
  auto const source = from.model->parameters();
  bool fits = from.words.words() == words.words() && source.size() == to.parameters().size();
  for (std::size_t i = 0; fits && i < source.size(); ++i) fits = source[i]->shape == to.parameters()[i]->shape;
  if (!fits)
    throw std::invalid_argument{"pretrain: expected a checkpoint of this network and these words, got another"};
  for (std::size_t i = 0; i < source.size(); ++i) to.parameters()[i]->values = source[i]->values;
}

}  // namespace

void pretrain(pretrain_settings const& how) {
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
