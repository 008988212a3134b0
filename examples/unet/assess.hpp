// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/thread_pool.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "classifier.hpp"
#include "dataset.hpp"
#include "diffusion.hpp"
#include "engine.hpp"
#include "evaluate.hpp"
#include "model.hpp"
#include "random.hpp"

namespace unet {

/// Mean v-loss over the given pictures, each at `times` stratified times with fixed noise: the same question to every
/// model. Labels and captions are given.
[[nodiscard]] double mean_velocity_loss(model<float>& of, dataset const& data, std::span<std::size_t const> pictures,
                                        int times = 4);
[[nodiscard]] double mean_velocity_loss(engine& of, dataset const& data, std::span<std::size_t const> pictures,
                                        int times = 4);

/// What pictures to draw, and from which noise.
struct prompts {
  std::vector<condition> conditions;  ///< their tokens are the data's
  std::vector<int> labels;
  std::vector<std::string> captions;
  std::vector<std::uint64_t> seeds;

  /// Asks for a picture as that one of the data is labelled and captioned. The data must be tokenized and live on.
  void add(dataset const& data, std::size_t picture, std::uint64_t seed) {
    conditions.push_back({data.label[picture], data.tokens[picture]});
    labels.push_back(data.label[picture]);
    captions.push_back(data.name[picture]);
    seeds.push_back(random_bits(seed, 1 + seeds.size()));
  }
};

/// Draws pictures as `sample` does, and shows how far it is.
[[nodiscard]] std::vector<float> sample_with_progress(engine& from, prompts const& asked, sampling const& how);

/// How well a model draws one style.
struct assessment {
  double loss = 0;  ///< held-out v-loss
  figures drawn;    ///< of samples
};

/// Asks every model the same questions about one style.
class assessor {
 public:
  /// @param data   of the style alone, tokenized; must outlive the assessor
  /// @param judge  a classifier's file
  /// @throws  std::invalid_argument if there are too few pictures to compare with
  assessor(sara::thread_pool& pool, dataset const& data, std::filesystem::path const& judge, std::uint64_t seed,
           sampling const& how);

  [[nodiscard]] assessment operator()(engine& net) const;

 private:
  dataset const& data_;
  sampling how_;
  prompts prompts_;
  std::unique_ptr<classifier<float>> judge_;
  judgement originals_;
};

/// The figures as a table, a column for each assessment.
[[nodiscard]] std::string figures_table(std::vector<std::string> const& columns,
                                        std::vector<assessment> const& assessed);

}  // namespace unet
