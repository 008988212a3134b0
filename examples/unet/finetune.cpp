// SPDX-License-Identifier: Apache-2.0
#include "finetune.hpp"

#include <sara/sara.hpp>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "batches.hpp"
#include "differentiation.hpp"
#include "progress.hpp"
#include "random.hpp"
#include "text.hpp"
#include "weights.hpp"

namespace unet {
namespace {

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

[[nodiscard]] selector selector_of(finetune_settings const& how) {
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

[[nodiscard]] optional_nuclear_norm low_rank_loss_of(finetune_settings const& how) {
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

[[nodiscard]] sara::reselect_at reselection_of(finetune_settings const& how) {
  if (how.reselect == "halfway") return {.steps = {how.steps / 2}};
  // A selection that is not by magnitude has no threshold; that of a reselection which never comes may be anything.
  if (how.reselect == "never") return {.steps = {}, .threshold = std::numeric_limits<double>::infinity()};
  throw std::invalid_argument{"fine-tuning: expected to reselect halfway or never, got '" + how.reselect + "'"};
}

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

}  // namespace

finetune_result fine_tune(sara::host const& backend, model<float>& net, dataset data, finetune_settings const& how,
                          finetune_control const& control) {
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
            low_rank_loss_of(how),
            reselection_of(how),
            sara::adamw{.beta2 = 0.99, .weight_decay = 0},
            sara::linear_rate{.rate = how.highest_rate(), .steps = how.steps, .warmup = how.warm_up, .floor = 0.1}};
        return train(tuner, net, data, how, control);
      },
      selector_of(how));
}

finetune_result fine_tune_with_progress(sara::host const& backend, model<float>& net, dataset const& data,
                                        finetune_settings const& how, std::filesystem::path const& state, bool resume) {
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
