// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <sara/backend/counter_random.hpp>

#include "../unet/dataset.hpp"
#include "network.hpp"

namespace finetune {

/// Pictures with their classes.
struct pictures {
  at::Tensor images;  ///< [n, 3, 32, 32]
  at::Tensor labels;  ///< [n]
};

/// Emoji in some styles, to be told apart by what they show: every fifth emoji is kept for testing, in all styles.
struct task {
  pictures train, test;
  std::int64_t classes = 0;

  explicit task(std::vector<std::string> const& styles) {
    auto const all = unet::load_sheets(UNET_DATA, styles);
    std::vector<std::size_t> of_train, of_test;
    for (std::size_t i = 0; i < all.size(); ++i)
      (sara::stream_of(all.name[i]) % 5 == 0 ? of_test : of_train).push_back(i);
    train = take(all, of_train);
    test = take(all, of_test);
    classes = std::ssize(all.labels);
  }

 private:
  static pictures take(unet::dataset const& from, std::vector<std::size_t> const& which) {
    std::vector<at::Tensor> images;
    std::vector<std::int64_t> labels;
    for (auto const i : which) {
      auto const image = from.image(i);
      images.push_back(torch::tensor(std::vector<float>(image.begin(), image.end())).reshape({3, 32, 32}));
      labels.push_back(from.label[i]);
    }
    return {torch::stack(images), torch::tensor(labels)};
  }
};

/// The loop of any libtorch program; it does not know whose optimizer it has.
inline void train(torch::nn::Sequential& network, torch::optim::Optimizer& optimizer, pictures const& data,
                  std::int64_t epochs, std::int64_t batch = 32) {
  for (std::int64_t epoch = 0; epoch < epochs; ++epoch) {
    auto const order = torch::randperm(data.labels.size(0));
    for (std::int64_t first = 0; first + batch <= order.size(0); first += batch) {
      auto const part = order.slice(0, first, first + batch);
      drop_gradients(optimizer);
      auto const shifted = torch::roll(
          data.images.index_select(0, part),
          {torch::randint(-3, 4, {1}).item<std::int64_t>(), torch::randint(-3, 4, {1}).item<std::int64_t>()}, {2, 3});
      torch::cross_entropy_loss(network->forward(shifted), data.labels.index_select(0, part)).backward();
      optimizer.step();
    }
  }
}

/// The share of pictures whose class is told right.
[[nodiscard]] inline double accuracy(torch::nn::Sequential& network, pictures const& data) {
  torch::NoGradGuard const no_grad;
  double right = 0;
  for (std::int64_t first = 0; first < data.labels.size(0); first += 256) {
    auto const guess = network->forward(data.images.slice(0, first, first + 256)).argmax(1);
    right += guess.eq(data.labels.slice(0, first, first + 256)).sum().item<double>();
  }
  return right / static_cast<double>(data.labels.size(0));
}

}  // namespace finetune
