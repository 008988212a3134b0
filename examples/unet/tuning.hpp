// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/concept.hpp>
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/schedule/reselection.hpp>
#include <sara/select/below.hpp>
#include <sara/select/ranked.hpp>
#include <sara/tune/fine_tuner.hpp>
#include <sara/update/adamw.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "batches.hpp"
#include "dataset.hpp"
#include "differentiation.hpp"
#include "diffusion.hpp"
#include "finetune_settings.hpp"
#include "network.hpp"
#include "random.hpp"
#include "weights.hpp"

namespace unet {
namespace detail {

/// The small weights, so many or those below a threshold, as it is known when the program runs. One type for both,
/// as each makes a tuner of its own, which takes a while to compile.
struct small_weights {
  std::variant<sara::smallest, sara::below> which;

  static constexpr bool by_magnitude = true;
  [[nodiscard]] sara::magnitude score(sara::const_named_tensor const&) const { return {}; }
  [[nodiscard]] sara::cut cut(sara::const_named_tensor const& w) const {
    return std::visit([&](auto const& select) -> sara::cut { return select.cut(w); }, which);
  }
};

using selector = std::variant<small_weights, sara::largest, sara::random>;

[[nodiscard]] inline selector selector_of(finetune_settings const& how) {
  if (how.full()) return small_weights{sara::smallest{.fraction = 1.0}};
  if (how.method != "sara")
    throw std::invalid_argument{"fine-tuning: expected the method sara or full, got '" + how.method + "'"};
  if (how.threshold) return small_weights{sara::below{.threshold = *how.threshold}};
  if (how.selector == "smallest") return small_weights{sara::smallest{.fraction = how.fraction}};
  if (how.selector == "largest") return sara::largest{.fraction = how.fraction};
  if (how.selector == "random") return sara::random{.fraction = how.fraction, .seed = how.seed};
  throw std::invalid_argument{"fine-tuning: expected the selector smallest, largest or random, got '" + how.selector +
                              "'"};
}

/// The low-rank loss, where it is asked for: a user's own policy, on top of the library's.
struct optional_nuclear_norm : sara::nuclear_norm {
  [[nodiscard]] bool applies_to(sara::extents const& shape) const {
    return weight > 0 && sara::nuclear_norm::applies_to(shape);
  }
};

[[nodiscard]] inline optional_nuclear_norm low_rank_loss_of(finetune_settings const& how) {
  auto const matrices = [&] {
    if (how.nuclear_matrices == "every") return sara::turn::every;
    if (how.nuclear_matrices == "round-robin") return sara::turn::round_robin;
    if (how.nuclear_matrices == "random") return sara::turn::one_at_random;
    throw std::invalid_argument{
        "fine-tuning: expected the low-rank loss on every, round-robin or random matrices, "
        "got '" +
        how.nuclear_matrices + "'"};
  }();
  return {{.weight = how.nuclear, .matrices = matrices, .seed = how.seed}};
}

[[nodiscard]] inline sara::reselect_at reselection_of(finetune_settings const& how) {
  if (how.reselect == "halfway") return {.steps = {how.steps / 2}};
  // A selection that is not by magnitude has no threshold; that of a reselection which never comes may be anything.
  if (how.reselect == "never") return {.steps = {}, .threshold = std::numeric_limits<double>::infinity()};
  throw std::invalid_argument{"fine-tuning: expected to reselect halfway or never, got '" + how.reselect + "'"};
}

template <class Tuner, class Layers>
[[nodiscard]] finetune_result train(Tuner& tuner, basic_model<Layers>& net, dataset const& data,
                                    finetune_settings const& how, finetune_control const& control) {
  if (control.resume) tuner.load_state(control.state);
  differentiation<Layers, Tuner> differentiate{net, tuner, how.full()};
  batch_stream stream{
      data, {.batch = how.batch, .seed = how.seed, .drop_label = how.drop_label, .drop_caption = how.drop_caption}};
  noisy_batch<float> batch;
  while (tuner.steps() < how.steps && !control.stop()) {
    stream.fill(batch, tuner.steps());
    double const loss = differentiate(batch);
    auto const done = tuner.step();
    if (done.reselected) differentiate.renew();
    control.watch({done.step, loss, done.rate});
  }
  if (tuner.steps() < how.steps) tuner.save_state(control.state);
  finetune_result result{tuner.adapter(), tuner.steps(), tuner.selected(), 0, tuner.memory()};
  for (auto const& tensor : tuner.tensors()) result.tunable += tensor.shape.product();
  return result;
}

/// `tune` with one selector.
template <class Selector, sara::TensorBackend Backend, class Layers>
[[nodiscard]] finetune_result tune_selected(Selector const& select, Backend const& backend, basic_model<Layers>& net,
                                            dataset data, finetune_settings const& how,
                                            finetune_control const& control) {
  if (data.train.empty()) throw std::invalid_argument{"fine-tuning: expected pictures to learn from, got none"};
  if (how.batch == 0) throw std::invalid_argument{"fine-tuning: expected at least one picture a step, got none"};
  if (how.images_limit > 0 && how.images_limit < data.train.size()) {
    auto const order = random_permutation(random_bits(how.seed, 6), data.train.size());
    auto const all = std::exchange(data.train, {});
    for (std::size_t i = 0; i < how.images_limit; ++i) data.train.push_back(all[order[i]]);
  }
  sara::fine_tuner tuner{
      backend,
      named_weights(net),
      tunable_weights(),
      select,
      low_rank_loss_of(how),
      reselection_of(how),
      sara::adamw{.beta2 = 0.99, .weight_decay = 0},
      sara::linear_rate{.rate = how.highest_rate(), .steps = how.steps, .warmup = how.warm_up, .floor = 0.1}};
  return train(tuner, net, data, how, control);
}

}  // namespace detail

/// Teaches the model the pictures to train on in `data`, in place. Same settings, same bits, for any number of threads
/// and however often the run was stopped and resumed.
/// @param backend  where the model's weights are; it may share threads or stream with the model
/// @param net      the base model; also to resume, the state then brings what was learned
/// @param data     tokenized with the model's vocabulary
/// @throws  std::invalid_argument, sara::value_error for settings outside their range
/// @throws  sara::error if a state to resume from does not fit
template <sara::TensorBackend Backend, class Layers>
[[nodiscard]] finetune_result tune(Backend const& backend, basic_model<Layers>& net, dataset const& data,
                                   finetune_settings const& how, finetune_control const& control) {
  return std::visit([&](auto const& select) { return detail::tune_selected(select, backend, net, data, how, control); },
                    detail::selector_of(how));
}

}  // namespace unet
