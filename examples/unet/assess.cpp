// SPDX-License-Identifier: Apache-2.0
#include "assess.hpp"

#include <sara/backend/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "classifier_file.hpp"
#include "dataset.hpp"
#include "diffusion.hpp"
#include "progress.hpp"
#include "random.hpp"
#include "text.hpp"

namespace unet {
namespace {

/// `each` pictures of every class that the data have, class by class.
[[nodiscard]] prompts prompts_of_classes(dataset const& data, std::uint64_t seed, std::size_t each = 8) {
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

/// @param losses  losses(batch), of each picture
template <class Losses>
[[nodiscard]] double mean_loss(dataset const& data, std::span<std::size_t const> pictures, int times, Losses&& losses) {
  noisy_batch<float> batch;
  double sum = 0;
  auto const count = pictures.size() * static_cast<std::size_t>(times);
  for (std::size_t begin = 0; begin < count; begin += 64) {
    batch.clear();
    for (auto i = begin; i < std::min(begin + 64, count); ++i) {
      auto const picture = pictures[i % pictures.size()];
      batch.images.emplace_back(data.image(picture));
      batch.conditions.push_back({data.label[picture], data.tokens[picture]});
      // The golden ratio spreads each picture's times evenly, and the times of all pictures too.
      auto const turn = static_cast<double>(i) * std::numbers::phi;
      batch.times.push_back(static_cast<float>(turn - std::floor(turn)));
      batch.noise.push_back(random_bits(0x7e57, i));
    }
    for (double const one : losses(batch)) sum += one;
  }
  return sum / static_cast<double>(count);
}

}  // namespace

double mean_velocity_loss(model<float>& of, dataset const& data, std::span<std::size_t const> pictures, int times) {
  velocity_loss<float> loss{of};
  return mean_loss(data, pictures, times, [&](auto const& batch) { return loss.evaluate(batch, image_side); });
}

double mean_velocity_loss(engine& of, dataset const& data, std::span<std::size_t const> pictures, int times) {
  return mean_loss(data, pictures, times, [&](auto const& batch) { return of.losses(batch); });
}

std::vector<float> sample_with_progress(engine& from, prompts const& asked, sampling const& how) {
  std::span const conditions{asked.conditions};
  std::span const seeds{asked.seeds};
  std::vector<float> images;
  progress_line progress{"pictures", static_cast<std::int64_t>(conditions.size())};
  for (std::size_t begin = 0; begin < conditions.size(); begin += how.batch) {
    auto const count = std::min(how.batch, conditions.size() - begin);
    auto const drawn = from.sample(conditions.subspan(begin, count), seeds.subspan(begin, count), how);
    images.insert(images.end(), drawn.begin(), drawn.end());
    progress.show(static_cast<std::int64_t>(begin + count));
  }
  return images;
}

assessor::assessor(sara::thread_pool& pool, dataset const& data, std::filesystem::path const& judge, std::uint64_t seed,
                   sampling const& how)
    : data_{data}, how_{how}, prompts_{prompts_of_classes(data, seed)}, judge_{load_classifier(judge, pool)} {
  if (data.held_out.empty() || data.train.size() < 2 || prompts_.labels.empty())
    throw std::invalid_argument{"a style's figures need pictures with classes, some held out, got " +
                                std::to_string(data.size()) + " pictures, " + std::to_string(data.held_out.size()) +
                                " held out"};
  std::vector<float> originals;
  for (std::size_t const i : data.train) originals.insert(originals.end(), data.image(i).begin(), data.image(i).end());
  originals_ = judge_->judge(originals);
}

assessment assessor::operator()(engine& net) const {
  auto const samples = judge_->judge(sample_with_progress(net, prompts_, how_));
  return {mean_velocity_loss(net, data_, data_.held_out),
          judge(samples, originals_, judge_->style_number(data_.styles.front()), prompts_.labels)};
}

std::string figures_table(std::vector<std::string> const& columns, std::vector<assessment> const& assessed) {
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
