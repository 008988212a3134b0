// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/thread_pool.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "classifier.hpp"
#include "classifier_training.hpp"
#include "dataset.hpp"
#include "diffusion.hpp"
#include "evaluate.hpp"
#include "pretrain.hpp"
#include "progress.hpp"
#include "text.hpp"

namespace unet {

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

/// `each` pictures of every class that the data have, class by class.
[[nodiscard]] inline prompts prompts_of_classes(dataset const& data, std::uint64_t seed, std::size_t each = 8) {
  prompts result;
  auto const order = random_permutation(random_bits(seed, 0), data.size());
  for (int label = 0; label < class_count; ++label) {
    std::vector<std::size_t> of_class;
    std::copy_if(order.begin(), order.end(), std::back_inserter(of_class),
                 [&](std::size_t i) { return data.label[i] == label; });
    for (std::size_t k = 0; k < each && !of_class.empty(); ++k) result.add(data, of_class[k % of_class.size()], seed);
  }
  return result;
}

/// Draws pictures as `sample` does, and shows how far it is.
[[nodiscard]] inline std::vector<float> sample_with_progress(model<float>& from, prompts const& asked,
                                                             sampling const& how) {
  std::span const conditions{asked.conditions};
  std::span const seeds{asked.seeds};
  std::vector<float> images;
  progress_line progress{"pictures", static_cast<std::int64_t>(conditions.size())};
  for (std::size_t begin = 0; begin < conditions.size(); begin += how.batch) {
    auto const count = std::min(how.batch, conditions.size() - begin);
    auto const drawn = sample<float>(from, conditions.subspan(begin, count), seeds.subspan(begin, count), how);
    images.insert(images.end(), drawn.begin(), drawn.end());
    progress.show(static_cast<std::int64_t>(begin + count));
  }
  return images;
}

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
           sampling const& how)
      : data_{data}, how_{how}, prompts_{prompts_of_classes(data, seed)}, judge_{load_classifier(judge, pool)} {
    if (data.held_out.empty() || data.train.size() < 2 || prompts_.labels.empty())
      throw std::invalid_argument{"a style's figures need pictures with classes, some held out, got " +
                                  std::to_string(data.size()) + " pictures, " + std::to_string(data.held_out.size()) +
                                  " held out"};
    std::vector<float> originals;
    for (std::size_t const i : data.train)
      originals.insert(originals.end(), data.image(i).begin(), data.image(i).end());
    originals_ = judge_->judge(originals);
  }

  [[nodiscard]] assessment operator()(model<float>& net) const {
    auto const samples = judge_->judge(sample_with_progress(net, prompts_, how_));
    return {mean_velocity_loss(net, data_, data_.held_out),
            judge(samples, originals_, judge_->style_number(data_.styles.front()), prompts_.labels)};
  }

 private:
  dataset const& data_;
  sampling how_;
  prompts prompts_;
  std::unique_ptr<classifier<float>> judge_;
  judgement originals_;
};

/// The figures as a table, a column for each assessment.
[[nodiscard]] inline std::string figures_table(std::vector<std::string> const& columns,
                                               std::vector<assessment> const& assessed) {
  std::string text = format("%-42s", "");
  for (auto const& column : columns) text += format("%10s", column.c_str());
  auto const line = [&](char const* name, auto&& value) {
    text += format("\n%-42s", name);
    for (auto const& one : assessed) text += value(one);
  };
  line("held-out loss", [](auto const& a) { return format("%10.4f", a.loss); });
  line("probability of the style", [](auto const& a) {
    return a.drawn.style_probability ? format("%10.3f", *a.drawn.style_probability) : format("%10s", "unknown");
  });
  line("distance to the style (Frechet)", [](auto const& a) { return format("%10.1f", a.drawn.frechet_distance); });
  line("drawn as asked (accuracy over 31 classes)",
       [](auto const& a) { return format("%10.3f", a.drawn.category_accuracy); });
  return text + '\n';
}

}  // namespace unet
