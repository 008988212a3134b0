// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/host_device.hpp>
#include <sara/schedule/concept.hpp>
#include <sara/store/concept.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>
#include <sara/tune/arena.hpp>
#include <sara/tune/segment.hpp>
#include <sara/tune/update_entry.hpp>
#include <sara/update/concept.hpp>

namespace sara::detail {

/// 1 where |w| ≥ θ.
template <class T>
struct at_or_above {
  entries<T> weights;
  double threshold;
  [[nodiscard]] SARA_HOST_DEVICE double operator()(std::int64_t, std::int64_t position) const {
    return static_cast<double>(std::abs(widen(weights[position]))) >= threshold ? 1.0 : 0.0;
  }
  void prefetch(std::int64_t position) const { __builtin_prefetch(&weights[position]); }
};

/// A reselection's predicate as a score: 0 for what stays, 1 for what does not.
template <class Keep>
struct keep_score {
  Keep keep;
  template <Real R>
  [[nodiscard]] SARA_HOST_DEVICE double operator()(R w, std::int64_t) const {
    return keep(w) ? 0.0 : 1.0;
  }
};

/// to[j] = from[slots[j]].
template <Real R>
struct take_values {
  R const* from;
  std::int64_t const* slots;
  R* to;
  SARA_HOST_DEVICE void operator()(std::int64_t j, std::int64_t) const { to[j] = from[slots[j]]; }
};

/// run(jobs) once for every dtype with segments, so that all tensors of one dtype are one call of the backend.
/// make.template operator()<T>(segment) gives a segment's job, or nothing.
template <class Segments, class Make, class Run>
void by_dtype(Segments& segments, Make&& make, Run&& run) {
  for (auto const type : {dtype::float64, dtype::float32, dtype::bfloat16, dtype::float16})
    visit(type, [&]<class T>() {
      using job = typename decltype(make.template operator()<T>(segments[0]))::value_type;
      std::vector<job> jobs;
      for (auto& s : segments) {
        if (s.weights.type() != type || s.count() == 0) continue;
        if (auto made = make.template operator()<T>(s)) jobs.push_back(*made);
      }
      if (!jobs.empty()) run(std::span<job const>{jobs});
    });
}

/// What a step adds up, in the backend's memory.
struct step_sums {
  double regularizer_loss = 0;
  double squared_norm = 0;  ///< of the gradient, where it must be known before the update
  double clip_factor = 0;
  update_sums update;
};

/// Moves every tensor that has a gradient and forgets the gradient.  (SaRA, eq. 3 and 6)
/// @param clip  factor of the gradients, in the backend's memory, or null
/// @param sums  added to, in the backend's memory
template <class Backend, Real R, class Segment, UpdateRule Rule>
void update_entries(Backend const& backend, std::span<Segment> segments, arena<Backend, R>& columns, Rule const& rule,
                    double rate, double const* clip, update_sums* sums) {
  using kernel_type = decltype(rule.template kernel<R>(update_step{}));
  by_dtype(
      segments,
      [&]<class T>(Segment& s) {
        using entry = update_entry<T, R, kernel_type>;
        std::optional<sparse_job<decltype(s.store().ref()), entry>> job;
        if (s.phase == step_phase::has_gradient) {
          entry const of_slot{s.weights.template as<T>(),
                              s.has_master() ? columns.master() + s.first : nullptr,
                              columns.gradient_of(backend, s),
                              rule.moments() > 0 ? columns.moments() + s.first : nullptr,
                              columns.slots(),
                              rule.moments(),
                              clip,
                              rule.template kernel<R>(update_step{s.t + 1, rate, s.name}),
                              s.threshold.value_or(std::numeric_limits<double>::infinity())};
          using job_type = typename decltype(job)::value_type;
          job.emplace(job_type{s.store().ref(), of_slot});  // not assigned: a kernel may be a lambda
        }
        return job;
      },
      [&](auto jobs) { backend.reduce(jobs, sums); });
  for (auto& s : segments)
    if (s.phase == step_phase::has_gradient) {
      s.phase = step_phase::updated;
      ++s.t;
      columns.take_back(s);
    }
}

/// *count += entries with |w| ≥ θ among those that learn, in tensors that have a θ and that this step leaves alone.
template <class Backend, class Segment>
void count_at_or_above(Backend const& backend, std::vector<Segment> const& segments, double* count) {
  by_dtype(
      segments,
      [&]<class T>(Segment const& s) {
        std::optional<sparse_job<decltype(s.store().ref()), at_or_above<T>>> job;
        if (s.threshold && s.phase == step_phase::untouched)
          job = {s.store().ref(), {s.weights.template as<T>(), *s.threshold}};
        return job;
      },
      [&](auto jobs) { backend.reduce(jobs, count); });
}

/// M ← M ∧ keep, on the weights as they are now.  (SaRA, section 4.3)
/// @return a new arena for what is left: moments and gradients zero, masters as they were
/// Nothing changes if there is no memory for it. Extra memory: the new stores and arena beside the old ones, 8 bytes an
/// entry that stays in tensors with a master. Synchronises.
template <class Backend, Real R, class Segment, ProgressiveScheduler Scheduler>
[[nodiscard]] arena<Backend, R> reselect_entries(Backend const& backend, std::vector<Segment>& segments,
                                                 arena<Backend, R> const& columns, Scheduler const& scheduler,
                                                 int moments) {
  using store_type = std::remove_cvref_t<decltype(segments[0].store())>;
  std::vector<store_type> stores;
  std::vector<std::int64_t> counts;
  std::vector<typename Backend::template buffer<std::int64_t>> kept;  // of segments with a master: slots among the old
  for (auto const& s : segments) {
    auto values = backend.template allocate<R>(s.count());
    gather(backend, s.weights, s.store().ref(), values.data());
    auto const keep = scheduler.keep(s.threshold);
    using score = keep_score<std::remove_cvref_t<decltype(keep)>>;
    const_tensor_view const column{values.data(), extents{s.count()}, Backend::where};
    auto found = backend.compact(scored_tensor<score>{column, score{keep}}, key_cut{order_key(0.5), 0});
    stores.push_back(keep_slots(backend, s.store(), found.positions.data(), found.count));
    counts.push_back(found.count);
    kept.push_back(s.has_master() ? std::move(found.positions) : backend.template allocate<std::int64_t>(0));
  }
  auto const runs = slot_runs::of(segments, counts);
  arena<Backend, R> out{backend, runs, moments, columns.lends_gradients()};
  for (std::size_t i = 0; i < segments.size(); ++i)
    if (segments[i].has_master())
      for_each(backend, all_positions{counts[i]},
               take_values<R>{columns.master() + segments[i].first, kept[i].data(), out.master() + runs.first[i]});
  for (std::size_t i = 0; i < segments.size(); ++i) {
    auto& s = segments[i];
    s.reselected = std::move(stores[i]);
    s.plan.reset();
    s.lent.reset();
    s.first = runs.first[i];
    s.t = 0;
  }
  return out;
}

}  // namespace sara::detail
