// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <sara/backend/concept.hpp>
#include <sara/cuda/allocator.hpp>
#include <sara/cuda/buffer.hpp>
#include <sara/cuda/context.hpp>
#include <sara/cuda/executor.cuh>
#include <sara/cuda/order_statistic.cuh>
#include <sara/cuda/polar.cuh>
#include <sara/cuda/sampled_convolution.cuh>
#include <sara/cuda/sampled_product.cuh>
#include <sara/cuda/sampled_rows.cuh>
#include <sara/cuda/selection.cuh>

namespace sara::cuda {

/// The primitives of TensorBackend over an executor: a CUDA stream, or, in the tests, loops on the host.
/// Contracts: see TensorBackend. What a primitive takes beside its operands stands with its algorithm.
template <class Executor>
class basic_device {
 public:
  static constexpr memory where = Executor::where;
  template <class T>
  using buffer = typename Executor::template buffer<T>;
  using sampling_plan = detail::row_panels;

  explicit basic_device(Executor machine) : machine_{std::move(machine)} {}

  template <class T>
  [[nodiscard]] buffer<T> allocate(std::int64_t n) const {
    auto const here = machine_.enter();
    auto out = machine_.template scratch<T>(n);
    machine_.set_zero(out.data(), static_cast<std::size_t>(n) * sizeof(T));
    return out;
  }
  template <class T>
  void upload(std::span<T const> from, std::type_identity_t<T>* to) const {
    auto const here = machine_.enter();
    machine_.upload(from.data(), to, from.size_bytes());
  }
  template <class T>
  void download(std::type_identity_t<T> const* from, std::span<T> to) const {
    auto const here = machine_.enter();
    machine_.download(from, to.data(), to.size_bytes());
  }

  template <Positions P, class F>
  void for_each(std::span<sparse_job<P, F> const> jobs) const {
    auto const here = machine_.enter();
    machine_.visit(jobs);
  }
  template <Positions P, class F, class Sum>
  void reduce(std::span<sparse_job<P, F> const> jobs, Sum* sum) const {
    auto const here = machine_.enter();
    machine_.sum(jobs, sum);
  }

  template <Score S>
  [[nodiscard]] compaction<buffer<std::int64_t>> compact(scored_tensor<S> const& scored, key_cut limit) const {
    auto const here = machine_.enter();
    return detail::compact(machine_, scored, limit);
  }
  template <Score S>
  [[nodiscard]] key_cut order_statistic(std::span<scored_tensor<S> const> scored, std::int64_t rank) const {
    auto const here = machine_.enter();
    return detail::order_statistic(machine_, scored, rank);
  }

  template <Positions P>
  [[nodiscard]] sampling_plan plan_sampling(P positions) const {
    auto const here = machine_.enter();
    return detail::plan_panels(machine_, positions);
  }
  template <Positions P, Real R>
  void sampled_product(const_tensor_view const& dy, const_tensor_view const& x, P positions, sampling_plan const& plan,
                       R* out) const {
    auto const here = machine_.enter();
    detail::sampled_product(machine_, dy, x, positions, plan, out);
  }
  template <Positions P, Real R>
  void sampled_convolution(conv2d_shape const& shape, const_tensor_view const& dy, const_tensor_view const& x,
                           P positions, sampling_plan const& plan, R* out) const {
    auto const here = machine_.enter();
    detail::sampled_convolution(machine_, shape, dy, x, positions, plan, out);
  }
  template <Positions P, Real R>
  void sampled_rows(const_tensor_view const& dy, std::span<std::int64_t const> index, P positions, R* out) const {
    auto const here = machine_.enter();
    detail::sampled_rows(machine_, dy, index, positions, out);
  }
  template <class Engine, Positions P, Real R>
  void polar_factors(Engine engine, std::span<sparse_matrix<P, R> const> matrices, double weight) const {
    auto const here = machine_.enter();
    detail::polar_factors(machine_, engine, matrices, weight);
  }

  void synchronize() const {
    auto const here = machine_.enter();
    machine_.synchronize();
  }

 protected:
  [[nodiscard]] Executor const& machine() const noexcept { return machine_; }

 private:
  Executor machine_;
};

/// How a device works.
struct device_options {
  /// Where buffers and scratch memory come from; stream_pool() if empty.
  allocator memory = {};
  /// Products of float32 matrices in TF32: sampled gradients then have relative errors of about 1e-3, and
  /// polar_express runs in float32 instead of float64, without the bound of 1e-4.
  bool tf32 = false;
};

/// A CUDA device as a backend: one stream, its memory, cuBLAS and cuSOLVER on it.
///
/// Copies share all of these; a buffer keeps them alive. All work goes to the stream in order, none to another, and
/// nothing waits but what the contract of TensorBackend says. So tensors that another stream writes must be ready on
/// this one (cudaStreamWaitEvent, or a borrowed stream that both share), and stay until the work handed over has ended.
/// Threads may use copies one at a time; work of several devices or streams at a time takes one device object each.
///
/// A training step can be captured in a CUDA graph once a step has run before, by which plans and columns exist:
/// not with exact_svd, not with embeddings (their index is in host memory), not one that reselects. Replaying a
/// captured `step()` repeats its learning rate and bias correction; capture forward and backward pass with
/// `accumulate`, which have none, and after each replay call `expect_gradient()` of the handles and then `step()`. A
/// graph ends with a reselection and with load_state, after which positions and gradients lie elsewhere.
///
/// Memory: 32 MiB for cuBLAS; beside that, what each primitive takes until its work has ended, from the allocator.
class device : public basic_device<detail::stream_executor> {
 public:
  /// A non-blocking stream of its own on the calling thread's current device: it does not wait for the default stream.
  /// @throws error
  explicit device(device_options options = {}) : basic_device{on(std::nullopt, std::move(options))} {}
  /// Borrows a stream, which must outlive the device and its buffers; null is the current device's default stream,
  /// whose work cannot be captured.
  explicit device(cudaStream_t stream, device_options options = {}) : basic_device{on(stream, std::move(options))} {}

  [[nodiscard]] cudaStream_t stream() const noexcept { return machine().context().stream(); }
  /// The number of the CUDA device.
  [[nodiscard]] int ordinal() const noexcept { return machine().context().ordinal(); }
  /// Gives memory that the pool keeps for later back to the device. Waits. @throws error
  void release_unused() const {
    auto const here = machine().enter();
    synchronize();
    machine().context().release_unused();
  }

 private:
  static detail::stream_executor on(std::optional<cudaStream_t> stream, device_options options) {
    return detail::stream_executor{
        std::make_shared<detail::stream_context const>(stream, std::move(options.memory), options.tf32)};
  }
};

static_assert(TensorBackend<device>);

}  // namespace sara::cuda
