// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "dataset.hpp"
#include "finetune_settings.hpp"
#include "model.hpp"
#include "picture.hpp"
#include "tokens.hpp"

/// A task that is learned in seconds.
namespace unet::test {

/// Every parameter away from zero, so that no gradient is zero for want of a signal.
template <class Real>
void randomise(model<Real>& net) {
  for (auto* p : net.parameters()) {
    if (p->begin.radius == 0) p->begin.radius = 0.2;
    p->initialise(1000 + p->index);
  }
}

/// The smallest network that has every kind of layer.
inline model_shape tiny(int words) {
  return {.channels = {8, 8, 16}, .embedding = 16, .classes = class_count + 1, .words = words};
}

inline vocabulary toy_words() { return vocabulary{{"square", "cyan", "magenta"}}; }

/// Ten pictures: squares of five sizes in two colours, two of them held out.
inline dataset toy_data(vocabulary const& words = toy_words()) {
  dataset data;
  data.styles = {"toy"};
  for (int i = 0; i < 10; ++i) {
    auto picture = blank_bitmap(image_side, image_side);
    int const half = 3 + i / 2 * 2;
    for (int y = 16 - half; y < 16 + half; ++y)
      for (int x = 16 - half; x < 16 + half; ++x) picture.at(x, y)[i % 2] = 0;
    auto const name = std::string{i % 2 == 0 ? "cyan" : "magenta"} + " square";
    data.add(picture, 0, 0, i % 2, 0, name, name, i >= 8);
  }
  data.tokenize(words);
  return data;
}

inline finetune_settings quick() {
  return {.fraction = 0.3, .rate = 5e-3, .steps = 12, .warm_up = 2, .batch = 4, .seed = 3};
}

}  // namespace unet::test
