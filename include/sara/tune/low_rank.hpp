// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/error.hpp>
#include <sara/regularize/concept.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tune/arena.hpp>
#include <sara/tune/segment.hpp>

namespace sara::detail {

/// The loss of a matrix, which is zero again afterwards.
struct take_loss {
  double* losses;
  SARA_HOST_DEVICE double operator()(std::int64_t i, std::int64_t) const {
    auto const loss = losses[i];
    losses[i] = 0;
    return loss;
  }
};

/// A regularizer with the matrices of a model that it applies to, and their losses in the step to come.
template <class Backend, Real R, class Regularizer>
class low_rank_pass {
 public:
  explicit low_rank_pass(Regularizer regularizer) : regularizer_{std::move(regularizer)} {}

  /// Takes note of the matrices among the segments; to be called whenever these have changed. The first time it needs
  /// memory for all of them, later none.
  template <class Segment>
  void list(Backend const& backend, std::vector<Segment> const& segments) {
    auto const applies = [&](Segment const& s) { return regularizer_.applies_to(s.weights.shape()); };
    auto const most = std::count_if(segments.begin(), segments.end(), applies);
    if (losses_.size() == 0) losses_ = backend.template allocate<double>(most);
    sara::set_zero(backend, losses_.data(), most);
    matrices_.clear();
    matrices_.reserve(static_cast<std::size_t>(most));
    for (std::size_t i = 0; i < segments.size(); ++i)
      if (applies(segments[i]) && segments[i].count() > 0) matrices_.push_back(i);
  }

  /// Regularises all matrices that have their turn in a step; adds to their gradients and, of these and of add_one's
  /// since the last step, to *loss.
  template <class Segment>
  void add(Backend const& backend, std::vector<Segment>& segments, arena<Backend, R>& columns, std::int64_t step,
           double* loss) {
    add_run(backend, segments, columns, turn_of(step));
    reduce(backend, all_positions{std::ssize(matrices_)}, take_loss{losses_.data()}, loss);
  }

  /// The same for one segment alone, if it is a matrix and has its turn.
  template <class Segment>
  void add_one(Backend const& backend, std::vector<Segment>& segments, arena<Backend, R>& columns, std::int64_t step,
               std::size_t segment) {
    auto const run = turn_of(step);
    auto const first = matrices_.begin() + run.first;
    auto const found = std::lower_bound(first, first + run.count, segment);
    if (found != first + run.count && *found == segment)
      add_run(backend, segments, columns, {found - matrices_.begin(), 1});
  }

 private:
  [[nodiscard]] matrix_run turn_of(std::int64_t step) const {
    auto const matrices = static_cast<std::int64_t>(matrices_.size());
    matrix_run const run = regularizer_.at(step, matrices);
    require<value_error>(run.first >= 0 && run.count >= 0 && run.first <= matrices - run.count,
                         "regularizer: expected a run among ", matrices, " matrices, got ", run.count, " from ",
                         run.first);
    return run;
  }

  /// The matrices of a run that are still to be updated, all in one call. Extra memory: their values.
  template <class Segment>
  void add_run(Backend const& backend, std::vector<Segment>& segments, arena<Backend, R>& columns, matrix_run run) {
    auto const segment_of = [&](std::int64_t m) -> Segment& {
      return segments[matrices_[static_cast<std::size_t>(m)]];
    };
    std::vector<std::int64_t> turn;
    std::int64_t slots = 0;
    for (auto m = run.first; m < run.first + run.count; ++m) {
      if (segment_of(m).frozen || segment_of(m).phase == step_phase::updated) continue;
      turn.push_back(m);
      slots += segment_of(m).count();
    }
    auto values = backend.template allocate<R>(slots);
    auto* column = values.data();
    std::vector<sparse_matrix<decltype(segments[0].store().ref()), R>> matrices;
    for (auto const m : turn) {
      auto& s = segment_of(m);
      gather(backend, s.weights, s.store().ref(), column);
      matrices.push_back({s.store().ref(), column, columns.gradient_of(backend, s), losses_.data() + m});
      column += s.count();
      s.phase = step_phase::has_gradient;
    }
    regularizer_.add(backend, std::span<typename decltype(matrices)::value_type const>{matrices});
  }

  Regularizer regularizer_;
  std::vector<std::size_t> matrices_;                 // numbers of segments, ascending
  typename Backend::template buffer<double> losses_;  // of each matrix
};

}  // namespace sara::detail
