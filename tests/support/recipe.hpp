// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/tune/fine_tuner.hpp>

namespace sara::test {

/// What tests vary of a fine_tuner, all at run time: one type of tuner serves a whole program.
template <UpdateRule Rule = adamw>
struct recipe {
  double threshold = 0.08;
  double lambda = 0;                        ///< of the nuclear norm
  std::int64_t min_side = 2;                ///< of the matrices that it applies to
  std::vector<std::int64_t> reselect = {};  ///< after these steps
  Rule rule = {};
  cosine_rate rate = {.rate = 0.01, .floor = 1};  ///< constant
  double clip = std::numeric_limits<double>::infinity();
  names filter = {};
  int threads = 1;
  bool in_backward = false;
};

template <Real R = float, template <class> class Store = flat_index, UpdateRule Rule = adamw>
[[nodiscard]] auto make_tuner(std::vector<named_tensor> const& weights, recipe<Rule> const& r = {}) {
  auto const min_side = r.lambda == 0 ? std::numeric_limits<std::int64_t>::max() : r.min_side;
  return fine_tuner{host{r.threads},
                    weights,
                    compute_in<R>{},
                    store_as<Store>{},
                    r.filter,
                    below{.threshold = r.threshold},
                    nuclear_norm{.weight = r.lambda, .min_side = min_side},
                    reselect_at{.steps = r.reselect},
                    r.rule,
                    r.rate,
                    clip_norm{r.clip},
                    update_in_backward{r.in_backward}};
}

/// The positions of |w| < θ, by a walk of its own.
template <Scalar T>
[[nodiscard]] std::vector<std::int64_t> below_threshold(std::vector<T> const& weights, double threshold) {
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    auto const w = static_cast<double>(widen(weights[i]));
    if (-threshold < w && w < threshold) out.push_back(static_cast<std::int64_t>(i));
  }
  return out;
}

}  // namespace sara::test
