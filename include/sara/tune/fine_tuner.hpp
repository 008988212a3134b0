// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/adapter/base_hash.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/error.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/schedule/reselection.hpp>
#include <sara/select/below.hpp>
#include <sara/select/names.hpp>
#include <sara/select/select.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/traits.hpp>
#include <sara/tune/arena.hpp>
#include <sara/tune/handle.hpp>
#include <sara/tune/low_rank.hpp>
#include <sara/tune/name_index.hpp>
#include <sara/tune/on_host.hpp>
#include <sara/tune/passes.hpp>
#include <sara/tune/report.hpp>
#include <sara/tune/roles.hpp>
#include <sara/tune/segment.hpp>
#include <sara/tune/state.hpp>
#include <sara/update/adamw.hpp>
#include <sara/update/clip.hpp>

namespace sara {

/// SaRA on the weights of a model: selects what learns, takes gradients at those entries only, keeps them low-rank,
/// moves them, reselects, and hands out the adapter.  (SaRA, sections 4.1 to 4.4)
///
///     sara::fine_tuner tuner{sara::host{}, named_weights(model),
///                            sara::below{.threshold = 2e-3}, sara::nuclear_norm{.weight = 5e-4},
///                            sara::reselect_halfway{.steps = 5000}, sara::adamw{}};
///     // for each batch: forward; for each layer of the backward pass:
///     tuner[name].accumulate(dy, x);
///     tuner.step();
///
/// Every argument after the weights plays one role, in any order; roles that are left out have defaults:
///
/// | role | default |
/// |---|---|
/// | ThresholdSelector | below{} (θ = 2e-3) |
/// | LowRankRegularizer | no_regularizer |
/// | ProgressiveScheduler | never_reselect |
/// | UpdateRule | adamw |
/// | RateSchedule | constant_rate, at eq. 12 of the threshold |
/// | names | all tensors may learn |
/// | store_as<Store> | row_index |
/// | clip_norm | no clipping |
/// | update_in_backward | a gradient for every entry, until step() |
/// | compute_in<R> | the tensors' type where known statically and float64, else float32 |
///
/// The weights stay where they are and change in place; they must outlive the tuner. Two names for one memory (tied
/// weights) are one tensor, which a filter takes by both or by neither. A tensor that got no gradient since the last
/// step, and that the regularizer leaves alone, stays as it is, moments too. Memory beside the model: positions, and
/// (1 + moments) columns of R, one less with update_in_backward; see memory().
/// Example: tests/tune/fine_tuner.cpp
template <TensorBackend Backend, Real R, class... Policies>
class fine_tuner {
  static_assert(((detail::roles<Backend>::template count_of<Policies> > 0) && ...),
                "sara::fine_tuner: an argument plays no role. Expected a ThresholdSelector, LowRankRegularizer, "
                "ProgressiveScheduler, UpdateRule or RateSchedule (see the concept of that name for what it needs), or "
                "sara::names, store_as, clip_norm, compute_in, update_in_backward.");
  static_assert(((detail::roles<Backend>::template count_of<Policies> <= 1) && ...),
                "sara::fine_tuner: an argument plays two roles. Expected a type that models one concept; split it.");

  using role = detail::roles<Backend>;
  using selector_type = detail::picked<role::template selector, below, Policies...>;
  using regularizer_type = detail::picked<role::template regularizer, no_regularizer, Policies...>;
  using scheduler_type = detail::picked<role::template scheduler, never_reselect, Policies...>;
  using update_type = detail::picked<role::template update, adamw, Policies...>;
  using rate_type = detail::picked<role::template rate, constant_rate, Policies...>;
  using store_type =
      typename detail::picked<role::template store, store_as<row_index>, Policies...>::template type<Backend>;
  using segment = detail::segment<Backend, store_type, R>;
  static_assert(SparseParameterStore<store_type, Backend>,
                "sara::fine_tuner: store_as expects a SparseParameterStore.");

 public:
  using handle = tensor_handle<Backend, segment, R>;
  using report = step_report<fine_tuner>;

  /// Selects, and takes note of the original values; no weight changes.
  /// @param weights  any range of (name, tensor), see NamedTensors; tensors in the backend's memory
  /// @throws name_error    for two tensors of one name, or a filter that takes none
  /// @throws shape_error   for two tensors over one memory with different extents, strides or dtypes
  /// @throws dtype_error   for a float64 tensor while computing in float32
  /// @throws value_error   for settings outside their range, or a missing rate or threshold where neither follows; for
  /// a tensor that the filter takes by one of its names only
  /// @throws memory_error
  /// Complexity: a few reads of the weights. Synchronises.
  template <NamedTensors Range>
  fine_tuner(Backend backend, Range&& weights, Policies... policies)
      : backend_{std::move(backend)},
        low_rank_{detail::pick<role::template regularizer>(no_regularizer{}, policies...)},
        scheduler_{detail::pick<role::template scheduler>(never_reselect{}, policies...)},
        update_{detail::pick<role::template update>(adamw{}, policies...)},
        schedule_{detail::pick<role::template rate>(constant_rate{}, policies...)},
        clip_{detail::pick<role::template clip>(std::optional<clip_norm>{}, policies...)},
        in_backward_{detail::pick<role::template in_backward>(sara::update_in_backward{false}, policies...)},
        sums_{backend_.template allocate<detail::step_sums>(1)} {
    names const every_name;
    auto const learners =
        index_.adopt<R>(views_of<tensor_view>(weights), detail::pick<role::template filter>(every_name, policies...));
    select_entries(learners, detail::pick<role::template selector>(below{}, policies...));
    base_rate_ = validated_rate(segments_);
    lay_out();
  }

  fine_tuner(fine_tuner const&) = delete;
  fine_tuner& operator=(fine_tuner const&) = delete;
  fine_tuner(fine_tuner&&) = default;
  fine_tuner& operator=(fine_tuner&&) = default;
  ~fine_tuner() = default;

  /// The tensor of that name, for its layer's backward pass.
  /// @throws name_error  if the weights had no such name
  [[nodiscard]] handle operator[](std::string_view name) { return {backend_, segments_, arena_, index_[name]}; }

  /// One optimiser step: regularise, clip, update, scatter; then reselect if it is time. Forgets the gradients.
  ///
  /// No step is lost at a reselection: it comes after the update, moments start anew, the rate goes on. Where there is
  /// no memory for it the backend's error passes through; then the step is done, and M is as it was.
  /// @throws value_error  for a learning rate of the schedule that is negative or not finite, and for a regularizer's
  /// turn that is no run of the matrices; then no weight or gradient has changed
  /// Complexity: O(learning entries), and what the regularizer takes. Does not synchronise unless it reselects or the
  /// regularizer does, as with exact_svd on a device.
  report step() {
    auto const rate = current_rate();
    auto* const sums = begin_sums();
    low_rank_.add(backend_, segments_, arena_, steps_, &sums->regularizer_loss);
    if (clips()) {
      add_squared_norm(&sums->squared_norm);
      clip_factor(backend_, &sums->squared_norm, clip_->max, &sums->clip_factor);
    }
    detail::count_at_or_above(backend_, segments_, &sums->update.at_or_above);
    detail::update_entries(backend_, std::span{segments_}, arena_, update_, rate,
                           clips() ? &sums->clip_factor : nullptr, &sums->update);
    for (auto& s : segments_) s.phase = detail::step_phase::untouched;
    sums_begun_ = false;
    ++steps_;
    bool const reselect = scheduler_.reselects_after(steps_);
    if (reselect) {
      arena_ = detail::reselect_entries(backend_, segments_, arena_, scheduler_, update_.moments());
      low_rank_.list(backend_, segments_);
    }
    return {*this, steps_, rate, reselect, arena_.slots()};
  }

  /// Regularises and updates one tensor in the middle of a backward pass, while its weights are in cache; step() then
  /// leaves it out. The weights get the same bits as from step() alone.
  ///
  /// To be called once all of the tensor's gradient is there, and when its layer has no more use for the old weights:
  /// after the gradient of the layer's input. Further gradients before step() are refused. A tensor that has neither a
  /// gradient nor its turn with the regularizer stays as it is. Not from two threads at once.
  /// @throws name_error   if the weights had no such name
  /// @throws value_error  where gradients are clipped: their norm is over all tensors; for a rate or a regularizer's
  /// turn that step() refuses
  /// Complexity: O(learning entries of the tensor), and what the regularizer takes. Synchronises only where that does.
  void update_in_backward(std::string_view name) {
    require_no_clipping(detail::text("update_in_backward('", name, "')"));
    auto const at = index_[name];
    if (!at || segments_[*at].phase == detail::step_phase::updated) return;
    auto const rate = current_rate();
    auto* const sums = begin_sums();
    low_rank_.add_one(backend_, segments_, arena_, steps_, *at);
    detail::update_entries(backend_, std::span{&segments_[*at], 1}, arena_, update_, rate, nullptr, &sums->update);
  }

  /// Whether it was made with a sara::update_in_backward.
  [[nodiscard]] bool updates_in_backward() const noexcept { return in_backward_.enabled; }

  /// Forgets the gradients since the last step. What was updated in the backward pass stays so.
  void zero_gradient() {
    detail::each_gradient(arena_, segments_, [&](R* column, std::int64_t count) { set_zero(backend_, column, count); });
    for (auto& s : segments_) {
      arena_.take_back(s);
      if (s.phase == detail::step_phase::has_gradient) s.phase = detail::step_phase::untouched;
    }
  }

  /// Leaves a tensor alone until it is thawed: its handle ignores what it is given and the regularizer passes it over.
  /// A gradient that it has already still moves it in the next step. Not part of a saved state.
  /// @throws name_error  if the weights had no such name
  void freeze(std::string_view name, bool frozen = true) {
    if (auto const at = index_[name]) segments_[*at].frozen = frozen;
  }

  /// What was learned so far: current minus original values of all of M as first selected, frozen entries included.
  /// Synchronises.
  [[nodiscard]] sara::adapter adapter() const {
    sara::adapter out;
    for (auto const& s : segments_) {
      if (s.selected.count() == 0) continue;
      auto const now = detail::values_on_host<R>(backend_, s.weights, s.selected);
      adapter_tensor tensor{s.weights.shape(), s.weights.type(), s.base_hash, positions_of(backend_, s.selected), {}};
      auto const difference = [&]<class D>(std::vector<D> delta) {
        for (std::size_t i = 0; i < now.size(); ++i) delta.push_back(static_cast<D>(now[i] - s.original[i]));
        tensor.delta = std::move(delta);
      };
      tensor.type == dtype::float64 ? difference(std::vector<double>{}) : difference(std::vector<float>{});
      out.tensors.emplace(s.name, std::move(tensor));
    }
    return out;
  }

  /// Writes everything that resuming needs, atomically: values, moments, gradients so far, masks, counters. Policies
  /// are not written; their random choices are functions of seed and step, so there is no generator to save.
  /// @throws file_error
  /// @throws value_error  in the middle of a backward pass that updates
  /// Synchronises. Layout: sara/tune/state.hpp
  void save_state(std::filesystem::path const& path) const { static_cast<void>(collect_state().write(path)); }

  /// What save_state writes, not written yet: for a framework's own archive.
  /// @throws value_error  in the middle of a backward pass that updates
  /// Synchronises. Extra memory: the file's size.
  [[nodiscard]] safetensors_writer collect_state() const {
    for (auto const& s : segments_)
      detail::require<value_error>(s.phase != detail::step_phase::updated,
                                   "fine_tuner: save_state expected step() after update_in_backward, got '", s.name,
                                   "' updated since the last one");
    return detail::state_writer<Backend, R>{backend_, update_.moments()}.collect(segments_, arena_, steps_);
  }

  /// Goes on where save_state stopped, bit by bit: a tuner made from the same base weights and policies. What is frozen
  /// stays frozen.
  /// @throws file_error  if the file is damaged or no state
  /// @throws base_error  if the weights are not the base weights that the state was made from
  /// @throws name_error, shape_error, value_error  if the tensors, their extents, the update rule or the type of
  /// computation are others, or a policy wants a threshold that the state's selection does not have
  /// Nothing is changed unless all of it fits and there is memory for it.
  void load_state(std::filesystem::path const& path) { load_state(safetensors::load(path)); }

  /// The same from a state's file that was read already.
  void load_state(safetensors const& file) {
    auto loaded = detail::state_reader<Backend, R, store_type>{backend_, update_.moments(), in_backward_.enabled}.read(
        file, segments_);
    auto const rate = validated_rate(loaded.segments);
    std::vector<typename Backend::template buffer<R>> originals;  // all memory is there before a weight is written
    for (auto const& s : segments_) {
      originals.push_back(backend_.template allocate<R>(s.selected.count()));
      backend_.upload(std::span{s.original}, originals.back().data());
    }
    write(originals);
    base_rate_ = rate;
    segments_ = std::move(loaded.segments);
    arena_ = std::move(loaded.arena);
    steps_ = loaded.steps;
    sums_begun_ = false;
    write(loaded.values);
    backend_.synchronize();
    low_rank_.list(backend_, segments_);
  }

  /// Steps done.
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }
  /// Entries that learn, over all tensors.
  [[nodiscard]] std::int64_t learning() const noexcept { return arena_.slots(); }
  /// Entries of M as first selected, over all tensors.
  [[nodiscard]] std::int64_t selected() const {
    std::int64_t n = 0;
    for (auto const& s : segments_) n += s.selected.count();
    return n;
  }

  /// The tensors that may learn, in their order.
  [[nodiscard]] std::vector<tensor_summary> tensors() const {
    std::vector<tensor_summary> out;
    for (auto const& s : segments_)
      out.push_back(
          {s.name, s.weights.shape(), s.weights.type(), s.selected.count(), s.count(), s.not_finite, s.threshold});
    return out;
  }

  /// Exactly what is held beside the model.
  [[nodiscard]] memory_summary memory() const {
    memory_summary out{0, 0, arena_.bytes(), 0};
    for (auto const& s : segments_) {
      out.positions += s.selected.bytes() + (s.reselected ? s.reselected->bytes() : 0);
      out.plans += s.plan ? s.plan->bytes() : 0;
      out.originals += static_cast<std::int64_t>(s.original.size() * sizeof(R));
    }
    return out;
  }

  /// The highest learning rate: the schedule's, or eq. 12 of the largest threshold of the selection.
  [[nodiscard]] double base_rate() const noexcept { return base_rate_; }

  /// Norm of all compact gradients since the last step that are still to be used, without the regularizer's: a step
  /// whose gradient is not finite can be left out by zero_gradient(). Synchronises.
  [[nodiscard]] double gradient_norm() const {
    auto sum = backend_.template allocate<double>(1);
    add_squared_norm(sum.data());
    double squared = 0;
    backend_.download(sum.data(), std::span{&squared, 1});
    return std::sqrt(squared);
  }

  /// The compact gradient of one tensor since the last step, [learning]; empty for one that does not learn, zero once
  /// it was updated in the backward pass.
  /// @throws name_error  if the weights had no such name. Synchronises.
  [[nodiscard]] std::vector<R> gradient(std::string_view name) const {
    auto const at = index_[name];
    if (!at) return {};
    auto const& s = segments_[*at];
    auto const* const gradient = arena_.gradient_of(s);
    return gradient ? detail::on_host(backend_, gradient, s.count())
                    : std::vector<R>(static_cast<std::size_t>(s.count()));
  }

 private:
  friend report;

  [[nodiscard]] detail::step_sums sums_of(std::int64_t step) const {
    detail::require<value_error>(step == steps_ && !sums_begun_, "report: expected to be asked before step ", step + 1,
                                 " begins, got a question after it");
    detail::step_sums out;
    backend_.download(sums_.data(), std::span{&out, 1});
    return out;
  }

  /// Writes values to M as first selected, of each tensor.
  void write(std::vector<typename Backend::template buffer<R>> const& values) const {
    for (std::size_t i = 0; i < segments_.size(); ++i)
      scatter(backend_, values[i].data(), segments_[i].selected.ref(), segments_[i].weights);
  }

  void select_entries(std::vector<named_tensor> const& learners, selector_type const& selector) {
    std::vector<const_named_tensor> weights;
    weights.reserve(learners.size());
    for (auto const& w : learners) weights.push_back({w.name, w.tensor});
    auto selections = sara::select(backend_, std::span<const_named_tensor const>{weights}, selector);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      auto const& found = selections[i];
      auto const& tensor = learners[i].tensor;
      store_type store(backend_, matrix_shape::of(tensor.shape()), found.positions.data(), found.count);
      selections[i].positions = {};
      auto original = detail::values_on_host<R>(backend_, tensor, store);
      segments_.push_back({.name = learners[i].name,
                           .weights = tensor,
                           .selected = std::move(store),
                           .threshold = found.threshold,
                           .not_finite = found.not_finite,
                           .base_hash = base_hash(backend_, tensor),
                           .original = std::move(original)});
    }
  }

  /// Finds out now, not in the first step or at the switch, whether all policies can do their work on a selection.
  /// @return the highest learning rate
  [[nodiscard]] double validated_rate(std::vector<segment> const& selection) const {
    for (auto const& s : selection) static_cast<void>(scheduler_.keep(s.threshold));
    static_cast<void>(scheduler_.reselects_after(0));
    std::optional<double> const given = schedule_.rate;
    auto const rate = given ? given : detail::rate_for_thresholds(selection);
    detail::require<value_error>(rate || selection.empty(),
                                 "fine_tuner: expected a learning rate, since none follows from a selection that is "
                                 "not by magnitude (eq. 12); got none");
    static_cast<void>(update_.template kernel<R>(update_step{1, rate_of_step(rate.value_or(0), 0)}));
    detail::require<value_error>(update_.moments() >= 0 && update_.moments() <= max_moments,
                                 "fine_tuner: expected an update rule with 0 to ", max_moments, " moments, got ",
                                 update_.moments());
    detail::require<value_error>(!clip_ || clip_->max > 0, "clip_norm: expected a norm above 0, got ",
                                 clip_ ? clip_->max : 0.0);
    if (in_backward_.enabled) require_no_clipping("update_in_backward");
    return rate.value_or(0);
  }

  /// Gives every tensor its slots in a new arena and fills the masters from the weights.
  void lay_out() {
    arena_ = detail::make_arena<R>(backend_, segments_, update_.moments(), in_backward_.enabled);
    for (auto const& s : segments_)
      if (s.has_master()) gather(backend_, s.weights, s.store().ref(), arena_.master() + s.first);
    low_rank_.list(backend_, segments_);
  }

  [[nodiscard]] double rate_of_step(double highest, std::int64_t step) const {
    double const rate = highest * schedule_.factor(step);
    detail::require<value_error>(rate >= 0 && std::isfinite(rate),
                                 "fine_tuner: expected a finite learning rate of at least 0, got ", rate);
    return rate;
  }
  [[nodiscard]] double current_rate() const { return rate_of_step(base_rate_, steps_); }
  /// Whether the update must wait for the norm of the whole gradient.
  [[nodiscard]] bool clips() const { return clip_ && std::isfinite(clip_->max); }
  void require_no_clipping(std::string const& who) const {
    detail::require<value_error>(!clips(), "fine_tuner: ", who,
                                 " expected a tuner without clip_norm, whose norm is over all tensors, got one of ",
                                 clip_ ? clip_->max : 0.0);
  }
  void add_squared_norm(double* squared) const {
    detail::each_gradient(arena_, segments_,
                          [&](R const* column, std::int64_t count) { squared_norm(backend_, column, count, squared); });
  }

  /// The sums of the step to come: zero at its first update.
  detail::step_sums* begin_sums() {
    if (!std::exchange(sums_begun_, true)) set_zero(backend_, sums_.data(), 1);
    return sums_.data();
  }

  Backend backend_;
  detail::low_rank_pass<Backend, R, regularizer_type> low_rank_;
  scheduler_type scheduler_;
  update_type update_;
  rate_type schedule_;
  std::optional<clip_norm> clip_;
  sara::update_in_backward in_backward_;
  double base_rate_ = 0;
  std::int64_t steps_ = 0;
  bool sums_begun_ = false;   // an update of the step to come has been
  detail::name_index index_;  // names to segments
  std::vector<segment> segments_;
  detail::arena<Backend, R> arena_;
  typename Backend::template buffer<detail::step_sums> sums_;  // one
};

template <TensorBackend Backend, NamedTensors Range, class... Policies>
fine_tuner(Backend, Range&&, Policies...)
    -> fine_tuner<Backend, typename detail::computed_real<Range, Policies...>::type, Policies...>;

}  // namespace sara
