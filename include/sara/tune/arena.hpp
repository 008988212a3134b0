// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include <sara/backend/concept.hpp>

namespace sara::detail {

/// The trainable state of a whole model in a few columns, a run of slots for each tensor: one launch, one all-reduce,
/// one file. Values live in the weights; only tensors of a narrower dtype than R have a master copy of theirs here.
template <class Backend, Real R>
class arena {
 public:
  arena() = default;

  /// All columns zero.
  /// @param moments       columns of the update rule
  /// @param master_slots  the first so many slots have a master value
  arena(Backend const& backend, std::int64_t slots, int moments, std::int64_t master_slots)
      : slots_{slots},
        gradient_{backend.template allocate<R>(slots)},
        moments_{backend.template allocate<R>(slots * moments)},
        master_{backend.template allocate<R>(master_slots)} {}

  [[nodiscard]] std::int64_t slots() const noexcept { return slots_; }
  [[nodiscard]] R* gradient() noexcept { return gradient_.data(); }
  [[nodiscard]] R const* gradient() const noexcept { return gradient_.data(); }
  /// Moment k of slot i is at [k * slots() + i].
  [[nodiscard]] R* moments() noexcept { return moments_.data(); }
  [[nodiscard]] R const* moments() const noexcept { return moments_.data(); }
  /// Of the first slots, those of tensors narrower than R.
  [[nodiscard]] R* master() noexcept { return master_.data(); }
  [[nodiscard]] R const* master() const noexcept { return master_.data(); }

  [[nodiscard]] std::int64_t bytes() const noexcept {
    return static_cast<std::int64_t>((gradient_.size() + moments_.size() + master_.size()) * sizeof(R));
  }

 private:
  std::int64_t slots_ = 0;
  typename Backend::template buffer<R> gradient_;
  typename Backend::template buffer<R> moments_;
  typename Backend::template buffer<R> master_;
};

/// A new arena for what learns now; gives every segment its run of slots, tensors with a master first.
template <Real R, class Backend, class Segment>
[[nodiscard]] arena<Backend, R> make_arena(Backend const& backend, std::vector<Segment>& segments, int moments) {
  std::int64_t slots = 0;
  std::int64_t master_slots = 0;
  for (bool const has_master : {true, false}) {
    for (auto& s : segments) {
      if (s.has_master() != has_master) continue;
      s.first = slots;
      slots += s.count();
    }
    if (has_master) master_slots = slots;
  }
  return {backend, slots, moments, master_slots};
}

}  // namespace sara::detail
