// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/sara.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "dataset.hpp"
#include "dense_gradients.hpp"
#include "diffusion.hpp"
#include "pretrain.hpp"
#include "progress.hpp"
#include "sara_gradients.hpp"
#include "text.hpp"
#include "weights.hpp"

namespace unet {

/// What a run of fine-tuning is determined by, together with base weights and pictures.
struct finetune_settings {
  std::string method = "sara";             ///< or "full": every weight of convolutions and linear layers learns
  std::string selector = "smallest";       ///< or "largest", "random": which of these weights learn
  double fraction = 0.2;                   ///< how many of them
  std::optional<double> threshold = {};    ///< instead of a fraction: those below it, as in the paper
  std::optional<double> rate = {};         ///< the highest; without it 3e-3, or 5e-4 if all learn
  std::int64_t steps = 300;                ///< in all
  std::int64_t warm_up = 20;               ///< steps of rising rate; then it falls to a tenth
  std::size_t batch = 32;                  ///< pictures a step
  double nuclear = 0;                      ///< λ of the low-rank loss
  std::string nuclear_matrices = "every";  ///< or "round-robin", "random": which matrices in a step
  std::string reselect = "never";          ///< or "halfway": only what is still small goes on learning
  double drop_label = 0.12;                ///< share of pictures shown as "any class"
  double drop_caption = 0.2;               ///< share shown without a caption
  std::size_t images_limit = 0;            ///< learn from so many pictures only; 0 for all
  std::uint64_t seed = 1;

  [[nodiscard]] bool full() const { return method == "full"; }
  [[nodiscard]] double highest_rate() const { return rate.value_or(full() ? 5e-4 : 3e-3); }
};

/// What one step did.
struct finetune_step {
  std::int64_t step = 0;  ///< from 1
  double loss = 0;        ///< mean over the batch
  double rate = 0;
};

/// How a run is watched and stopped.
struct finetune_control {
  std::filesystem::path state = {};  ///< a stopped run is kept here
  bool resume = false;               ///< go on from there
  std::function<void(finetune_step const&)> watch = [](auto const&) {};
  std::function<bool()> stop = [] { return false; };
};

/// What a run has come to.
struct finetune_result {
  sara::adapter adapter;
  std::int64_t steps = 0;     ///< fewer than asked for if it was stopped
  std::int64_t selected = 0;  ///< weights that learned
  std::int64_t tunable = 0;   ///< weights among which they were selected
  sara::memory_summary memory;
};

namespace detail {

using selector = std::variant<sara::smallest, sara::largest, sara::random, sara::below>;

[[nodiscard]] inline selector selector_of(finetune_settings const& how) {
  if (how.full()) return sara::smallest{.fraction = 1.0};
  if (how.method != "sara")
    throw std::invalid_argument{"fine-tuning: expected the method sara or full, got '" + how.method + "'"};
  if (how.threshold) return sara::below{.threshold = *how.threshold};
  if (how.selector == "smallest") return sara::smallest{.fraction = how.fraction};
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

/// The gradient of the mean loss of a batch, added to the tuner's compact one.
template <class Tuner>
class differentiation {
 public:
  differentiation(model<float>& net, Tuner& tuner, bool full) : net_{net}, tuner_{tuner}, loss_{net} {
    if (full)
      dense_.emplace(net);
    else
      sampled_.emplace(net, tuner);
  }

  /// To be called when the tuner has reselected.
  void renew() {
    if (sampled_) sampled_.emplace(net_, tuner_);
  }

  /// @return  mean loss
  double operator()(noisy_batch<float> const& batch) {
    std::span<double const> losses;
    if (sampled_) {
      losses = loss_.differentiate(batch, image_side, *sampled_);
    } else {
      // Where everything learns, sampling entry by entry would be a detour.
      dense_->clear();
      losses = loss_.differentiate(batch, image_side, *dense_);
      for (auto const* p : net_.parameters()) tuner_[p->name].accumulate(as_tensor<float>((*dense_)[p->index], *p));
    }
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  }

 private:
  model<float>& net_;
  Tuner& tuner_;
  velocity_loss<float> loss_;
  std::optional<sara_gradients<float, typename Tuner::handle>> sampled_;
  std::optional<dense_gradients<float>> dense_;
};

template <class Tuner>
[[nodiscard]] finetune_result train(Tuner& tuner, model<float>& net, dataset const& data, finetune_settings const& how,
                                    finetune_control const& control) {
  if (control.resume) tuner.load_state(control.state);
  differentiation<Tuner> differentiate{net, tuner, how.full()};
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

}  // namespace detail

/// Teaches the model the pictures to train on in `data`, in place. Same settings, same bits, for any number of threads
/// and however often the run was stopped and resumed.
/// @param backend  may share its threads with the model
/// @param net      the base model; also to resume, the state then brings what was learned
/// @param data     tokenized with the model's vocabulary
/// @throws  std::invalid_argument, sara::value_error for settings outside their range
/// @throws  sara::error if a state to resume from does not fit
[[nodiscard]] inline finetune_result fine_tune(sara::host const& backend, model<float>& net, dataset data,
                                               finetune_settings const& how, finetune_control const& control) {
  if (data.train.empty()) throw std::invalid_argument{"fine-tuning: expected pictures to learn from, got none"};
  if (how.batch == 0) throw std::invalid_argument{"fine-tuning: expected at least one picture a step, got none"};
  if (how.images_limit > 0 && how.images_limit < data.train.size()) {
    auto const order = random_permutation(random_bits(how.seed, 6), data.train.size());
    auto const all = std::exchange(data.train, {});
    for (std::size_t i = 0; i < how.images_limit; ++i) data.train.push_back(all[order[i]]);
  }
  return std::visit(
      [&](auto const& select) {
        sara::fine_tuner tuner{
            backend,
            named_weights(net),
            tunable_weights(),
            select,
            detail::low_rank_loss_of(how),
            detail::reselection_of(how),
            sara::adamw{.beta2 = 0.99, .weight_decay = 0},
            sara::linear_rate{.rate = how.highest_rate(), .steps = how.steps, .warmup = how.warm_up, .floor = 0.1}};
        return detail::train(tuner, net, data, how, control);
      },
      detail::selector_of(how));
}

/// The same, with a progress line; Ctrl-C stops it and leaves a state to resume from.
[[nodiscard]] inline finetune_result fine_tune_with_progress(sara::host const& backend, model<float>& net,
                                                             dataset const& data, finetune_settings const& how,
                                                             std::filesystem::path const& state, bool resume = false) {
  interruption const interrupted;
  std::optional<progress_line> progress;
  double recent = 0;
  auto const watch = [&](finetune_step const& done) {
    recent = progress ? 0.95 * recent + 0.05 * done.loss : done.loss;
    if (!progress) progress.emplace("steps", how.steps, done.step - 1);
    progress->show(done.step, format("loss %.4f, rate %.1e", recent, done.rate));
  };
  return fine_tune(backend, net, data, how,
                   {.state = state, .resume = resume, .watch = watch, .stop = [&] { return interrupted.requested(); }});
}

}  // namespace unet
