// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <sara/backend/concept.hpp>

namespace sara::detail {

/// Which slots of the columns each tensor has: runs one after the other, of tensors with a master first.
struct slot_runs {
  std::vector<std::int64_t> first = {};  ///< of each segment
  std::int64_t slots = 0;
  std::int64_t master_slots = 0;

  /// @param counts  of the entries of each segment that learn
  template <class Segment>
  [[nodiscard]] static slot_runs of(std::vector<Segment> const& segments, std::vector<std::int64_t> const& counts) {
    slot_runs out{std::vector<std::int64_t>(segments.size())};
    for (bool const has_master : {true, false}) {
      for (std::size_t i = 0; i < segments.size(); ++i)
        if (segments[i].has_master() == has_master) out.first[i] = std::exchange(out.slots, out.slots + counts[i]);
      if (has_master) out.master_slots = out.slots;
    }
    return out;
  }
};

/// The trainable state of a whole model in a few columns, a run of slots for each tensor: one launch, one all-reduce,
/// one file. Values live in the weights; only tensors of a narrower dtype than R have a master copy of theirs here.
/// Gradients are a column too, or are lent to each tensor from its first sum to its update.
template <class Backend, Real R>
class arena {
 public:
  arena() = default;

  /// All columns zero.
  /// @param moments          columns of the update rule
  /// @param lends_gradients  instead of having a column of them
  arena(Backend const& backend, slot_runs const& runs, int moments, bool lends_gradients)
      : slots_{runs.slots},
        lends_gradients_{lends_gradients},
        gradient_{backend.template allocate<R>(lends_gradients ? 0 : runs.slots)},
        moments_{backend.template allocate<R>(runs.slots * moments)},
        master_{backend.template allocate<R>(runs.master_slots)} {}

  [[nodiscard]] std::int64_t slots() const noexcept { return slots_; }
  /// Null where gradients are lent.
  [[nodiscard]] R* gradient() noexcept { return gradient_.data(); }
  [[nodiscard]] R const* gradient() const noexcept { return gradient_.data(); }
  /// Where a tensor's gradient is summed; zero at first.
  template <class Segment>
  [[nodiscard]] R* gradient_of(Backend const& backend, Segment& s) {
    if (!lends_gradients_) return gradient_.data() + s.first;
    if (!s.lent) s.lent = lend(backend, s.count());
    return s.lent->data();
  }
  /// The same to be read; null for a tensor that has none.
  template <class Segment>
  [[nodiscard]] R const* gradient_of(Segment const& s) const {
    if (!lends_gradients_) return gradient_.data() + s.first;
    return s.lent ? s.lent->data() : nullptr;
  }
  [[nodiscard]] bool lends_gradients() const noexcept { return lends_gradients_; }
  /// Takes a lent gradient back, which is zero again.
  template <class Segment>
  void take_back(Segment& s) {
    if (s.lent) free_.push_back(*std::exchange(s.lent, std::nullopt));
  }
  /// Moment k of slot i is at [k * slots() + i].
  [[nodiscard]] R* moments() noexcept { return moments_.data(); }
  [[nodiscard]] R const* moments() const noexcept { return moments_.data(); }
  /// Of the first slots, those of tensors narrower than R.
  [[nodiscard]] R* master() noexcept { return master_.data(); }
  [[nodiscard]] R const* master() const noexcept { return master_.data(); }

  [[nodiscard]] std::int64_t bytes() const noexcept {
    auto const columns = static_cast<std::int64_t>(gradient_.size() + moments_.size() + master_.size());
    return (columns + lent_slots_) * static_cast<std::int64_t>(sizeof(R));
  }

 private:
  using column = typename Backend::template buffer<R>;

  /// The shortest that is long enough of those that nobody has; a new one instead of the longest that is not.
  [[nodiscard]] column lend(Backend const& backend, std::int64_t count) {
    auto const wanted = static_cast<std::size_t>(count);
    auto const by_size = [](column const& a, column const& b) { return a.size() < b.size(); };
    std::sort(free_.begin(), free_.end(), by_size);
    auto found = std::find_if(free_.begin(), free_.end(), [&](column const& c) { return c.size() >= wanted; });
    if (found == free_.end()) {
      if (!free_.empty()) {
        lent_slots_ -= static_cast<std::int64_t>(free_.back().size());
        free_.pop_back();
      }
      free_.push_back(backend.template allocate<R>(count));
      lent_slots_ += count;
      found = free_.end() - 1;
    }
    auto out = std::move(*found);
    free_.erase(found);
    return out;
  }

  std::int64_t slots_ = 0;
  bool lends_gradients_ = false;
  std::int64_t lent_slots_ = 0;  // of all gradients that were made to lend
  column gradient_;
  column moments_;
  column master_;
  std::vector<column> free_;  // of them, those that nobody has, zero
};

/// A new arena for what learns now; gives every segment its run of slots.
/// @param lends_gradients  instead of having a column of them
template <Real R, class Backend, class Segment>
[[nodiscard]] arena<Backend, R> make_arena(Backend const& backend, std::vector<Segment>& segments, int moments,
                                           bool lends_gradients) {
  std::vector<std::int64_t> counts;
  for (auto const& s : segments) counts.push_back(s.count());
  auto const runs = slot_runs::of(segments, counts);
  for (std::size_t i = 0; i < segments.size(); ++i) segments[i].first = runs.first[i];
  return {backend, runs, moments, lends_gradients};
}

/// f(column, count) for the columns that all gradients are in.
template <class Arena, class Segments, class F>
void each_gradient(Arena& columns, Segments& segments, F&& f) {
  if (!columns.lends_gradients()) return f(columns.gradient(), columns.slots());
  for (auto& s : segments)
    if (s.lent) f(s.lent->data(), s.count());
}

}  // namespace sara::detail
