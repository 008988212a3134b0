// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataset.hpp"
#include "diffusion.hpp"
#include "random.hpp"

namespace unet {

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
      batch.images.emplace_back(data_.image(picture));
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

}  // namespace unet
