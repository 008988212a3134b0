// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backend/host/batches.hpp>
#include <sara/backend/host/buffer.hpp>
#include <sara/backend/host/convolution.hpp>
#include <sara/backend/host/order_statistic.hpp>
#include <sara/backend/host/polar.hpp>
#include <sara/backend/host/product.hpp>
#include <sara/backend/host/sampled_rows.hpp>
#include <sara/backend/host/sampling_plan.hpp>
#include <sara/backend/host/selection.hpp>
#include <sara/backend/thread_pool.hpp>

namespace sara {

/// The host as a backend: threads, and Eigen where matrices are factored.
///
/// Copies share one set of threads. Everything has ended when a call returns, and any thread count gives the same
/// bits: work is cut into fixed ranges, and partial results are joined in their order.
/// Contracts of the primitives: see TensorBackend.
class host {
 public:
  static constexpr memory where = memory::host;

  template <class T>
  using buffer = host_buffer<T>;

  /// @param threads  threads that work, the caller included; 0 means one for each processor of the calling thread
  explicit host(int threads = 0) : pool_{std::make_shared<thread_pool>(threads)} {}

  /// The threads, for a user's own work between steps.
  [[nodiscard]] thread_pool& threads() const noexcept { return *pool_; }

  template <class T>
  [[nodiscard]] buffer<T> allocate(std::int64_t n) const {
    return buffer<T>{n};
  }

  template <class T>
  void upload(std::span<T const> from, std::type_identity_t<T>* to) const {
    std::copy(from.begin(), from.end(), to);
  }
  template <class T>
  void download(std::type_identity_t<T> const* from, std::span<T> to) const {
    std::copy_n(from, to.size(), to.begin());
  }

  template <Positions P, class F>
  void for_each(std::span<sparse_job<P, F> const> jobs) const {
    over_ranges(
        jobs, [](std::int64_t) {},
        [](sparse_job<P, F> const& job, std::int64_t first, std::int64_t last, std::int64_t) {
          detail::visit_slots(job.positions, first, last, job.f);
        });
  }

  template <Positions P, class F, class Sum>
  void reduce(std::span<sparse_job<P, F> const> jobs, Sum* sum) const {
    std::vector<Sum> parts;
    over_ranges(
        jobs, [&](std::int64_t ranges) { parts.resize(static_cast<std::size_t>(ranges)); },
        [&](sparse_job<P, F> const& job, std::int64_t first, std::int64_t last, std::int64_t range) {
          parts[static_cast<std::size_t>(range)] = detail::sum_of_slots<Sum>(job.positions, first, last, job.f);
        });
    *sum = std::accumulate(parts.begin(), parts.end(), *sum);
  }

  template <Score S>
  [[nodiscard]] compaction<buffer<std::int64_t>> compact(scored_tensor<S> const& scored, key_cut limit) const {
    return detail::compact(*pool_, scored, limit);
  }

  template <Score S>
  [[nodiscard]] key_cut order_statistic(std::span<scored_tensor<S> const> scored, std::int64_t rank) const {
    return detail::order_statistic(*pool_, scored, rank);
  }

  using sampling_plan = host_sampling_plan;

  /// A part for each thread of this backend. Complexity: O(count + rows), in the calling thread. Memory: 8 bytes a
  /// chunk, about one a position where rows have many; two more a position that holds no 16-bit column.
  /// @throws shape_error  for 2^26 rows or more, or 2^37 positions or more
  template <Positions P>
  [[nodiscard]] sampling_plan plan_sampling(P positions) const {
    return sampling_plan{positions, pool_->size()};
  }

  /// Workspace of each thread, kept for the next call: panels of its part of dY and X, 1 MiB in float32 (more only if
  /// one panel of both exceeds that); from 70 % density on also 128 rows of the gradient and what Eigen's product
  /// packs.
  /// @throws shape_error  for the plan of positions of another number or shape, or 2^25 input channels or more
  template <Positions P, Real R>
  void sampled_product(const_tensor_view const& dy, const_tensor_view const& x, P positions, sampling_plan const& plan,
                       R* out) const {
    detail::sampled_product(*pool_, detail::as_matrix("dY", dy), detail::as_matrix("X", x), positions, plan, out);
  }

  /// Workspace, kept by each thread for the next call: strips of its part of dY, 128 KiB in float32 for all parts, and
  /// of X, 256 KiB (more where two panels of all channels, or X of one block of the plan, exceed that). A pixel that is
  /// not finite also spoils entries whose tap does not see it.
  /// @throws shape_error  for the plan of positions of another number or shape, or strips of 2^32 elements or more
  template <Positions P, Real R>
  void sampled_convolution(conv2d_shape const& shape, const_tensor_view const& dy, const_tensor_view const& x,
                           P positions, sampling_plan const& plan, R* out) const {
    detail::banded_convolution<R>{shape, dy, x}.add(*pool_, positions, plan, out);
  }

  /// Extra memory: 16 bytes a token.
  template <Positions P, Real R>
  void sampled_rows(const_tensor_view const& dy, std::span<std::int64_t const> index, P positions, R* out) const {
    detail::sampled_rows(*pool_, detail::as_matrix("dY", dy), index, positions, out);
  }

  /// A matrix a task, the largest first; fewer than threads one after the other, each by all threads. Workspace of each
  /// thread: docs/backend.md, by engine.
  template <class Engine, Positions P, Real R>
  void polar_factors(Engine engine, std::span<sparse_matrix<P, R> const> matrices, double weight) const {
    std::vector<sparse_matrix<P, R>> by_size(matrices.begin(), matrices.end());
    std::stable_sort(by_size.begin(), by_size.end(), [](auto const& a, auto const& b) {
      return a.positions.shape().size() > b.positions.shape().size();
    });
    auto const add = [&](sparse_matrix<P, R> const& m) {
      *m.loss += weight * detail::polar_factor(*pool_, engine, m.positions, m.values, weight, m.gradient);
    };
    if (std::ssize(by_size) < pool_->size())
      std::for_each(by_size.begin(), by_size.end(), add);
    else
      pool_->parallel_for(std::ssize(by_size), [&](std::int64_t i) { add(by_size[static_cast<std::size_t>(i)]); });
  }

  void synchronize() const noexcept {}

 private:
  /// Slots of one task; fixed, so that sums are the same bits for any number of threads.
  static constexpr std::int64_t range_ = 1 << 14;

  /// begin(number of ranges), then f(job, first slot, last slot, number of the range) for all ranges of all jobs, in
  /// one call of the threads.
  template <class Job, class Begin, class F>
  void over_ranges(std::span<Job const> jobs, Begin&& begin, F&& f) const {
    std::vector<std::int64_t> first_range;  // of each job, ascending
    std::int64_t ranges = 0;
    for (auto const& job : jobs) {
      first_range.push_back(ranges);
      ranges += detail::ceil_div(job.positions.count(), range_);
    }
    begin(ranges);
    pool_->parallel_for(ranges, [&](std::int64_t range) {
      auto const found = std::upper_bound(first_range.begin(), first_range.end(), range) - 1;
      auto const& job = jobs[static_cast<std::size_t>(found - first_range.begin())];
      auto const first = (range - *found) * range_;
      f(job, first, std::min(job.positions.count(), first + range_), range);
    });
  }

  std::shared_ptr<thread_pool> pool_;
};

static_assert(TensorBackend<host>);

}  // namespace sara
