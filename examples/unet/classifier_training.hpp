// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "classifier.hpp"
#include "dataset.hpp"

namespace unet {

/// Copies an image moved by a few pixels, white coming in at the edges, with a little noise: the classifier should
/// judge what is drawn, not where to the pixel, and should not be fooled by a sampler's last specks.
void augment(std::span<float const, image_size> from, std::span<float, image_size> to, std::uint64_t key);

/// How often the classifier is right about pictures.
struct accuracy {
  double style = 0;
  double category = 0;
};

[[nodiscard]] accuracy measure_accuracy(classifier<float>& judge, dataset const& data,
                                        std::span<std::size_t const> pictures);

struct classifier_settings {
  std::filesystem::path data;  ///< folder with emoji.json and the sheets
  std::filesystem::path out;   ///< classifier to write
  std::vector<std::string> styles = {"noto",    "blob",      "fluent-flat", "fluent-high-contrast",
                                     "twemoji", "fluent-3d", "openmoji"};
  std::int64_t steps = 4000;
  std::size_t batch = 64;
  std::uint64_t seed = 1;
  double rate = 3e-3;
  double decay = 0.3;  ///< strong: there are about 40 emoji a class
  int threads = 0;
};

/// Trains the classifier on the training pictures of the styles whose sheets are in the folder, and writes it.
/// Same seed, same bits, for any number of threads.
/// @return  how often it is right about held-out pictures
/// @throws  std::runtime_error if there is no sheet
accuracy train_classifier(classifier_settings const& how);

}  // namespace unet
