// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/backend/positions.hpp>
#include <sara/cuda/buffer.hpp>
#include <sara/cuda/context.hpp>
#include <sara/cuda/error.hpp>
#include <sara/cuda/job_table.cuh>
#include <sara/cuda/kernels.cuh>
#include <sara/cuda/matrix.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::cuda::detail {

[[nodiscard]] constexpr cudaDataType_t data_type_of(dtype type) {
  switch (type) {
    case dtype::float64:
      return CUDA_R_64F;
    case dtype::float32:
      return CUDA_R_32F;
    case dtype::bfloat16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_16F;
  }
}

/// From which density on the dense product is expected to be faster than one dot product an entry.
///
/// A dot product loads two numbers for each multiply-add, from the second-level cache, which gives 4 to 6 TB/s on an
/// A100 or H100: 1 to 1.5 TFLOP/s in float32, half of that in float64, twice in 16 bits. Against these stand 20 to 60
/// TFLOP/s of their dense product in float32 and float64, 150 to 400 in TF32, 300 to 800 in 16 bits. Not measured.
/// Cards with 1/32 to 1/64 of their float32 rate in float64 (GeForce, L4, L40S) make dots and products of float64 at
/// about 1 TFLOP/s, so that there dots pay at any density.
[[nodiscard]] inline double dense_density(dtype type, bool tf32) {
  switch (type) {
    case dtype::float64:
    case dtype::float32:
      return type == dtype::float32 && tf32 ? 0.005 : 0.03;
    default:
      return 0.005;
  }
}

/// to[i] = the i-th of arrays of equal length
struct point_into {
  double* first;
  std::int64_t length;
  double** to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const { to[i] = first + i * length; }
};

/// What the algorithms of this wing ask of a machine, on a stream: to call function objects for many indices, to scan,
/// sort, count and multiply. They are written over any type with these members; the tests run them over one that loops
/// on the host, so that everything but this file and kernels.cuh is tested without a GPU.
///
/// Nothing waits but upload, download and synchronize, and `decompose`, in which cuSOLVER does. All work is ordered by
/// the stream; scratch memory returns to the allocator when its owner ends, and is not used anew before that work
/// ended.
class stream_executor {
 public:
  static constexpr memory where = memory::cuda;
  template <class T>
  using buffer = cuda::buffer<T>;

  explicit stream_executor(std::shared_ptr<stream_context const> context) : context_{std::move(context)} {}

  [[nodiscard]] stream_context const& context() const noexcept { return *context_; }
  [[nodiscard]] bool tf32() const noexcept { return context_->tf32(); }
  [[nodiscard]] double dense_density(dtype type) const { return detail::dense_density(type, tf32()); }
  /// Makes the stream's device the current one until the result ends.
  [[nodiscard]] current_device enter() const { return current_device{context_->ordinal()}; }

  /// n elements, not initialised.
  template <class T>
  [[nodiscard]] buffer<T> scratch(std::int64_t n) const {
    return {context_, n};
  }
  void set_zero(void* to, std::size_t bytes) const {
    if (bytes > 0) check(cudaMemsetAsync(to, 0, bytes, stream()), "cudaMemsetAsync");
  }
  /// Waits, as memory that the caller may reuse must have been read.
  void upload(void const* from, void* to, std::size_t bytes) const {
    if (bytes == 0) return;
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "cudaMemcpyAsync to the device");
    synchronize();
  }
  void download(void const* from, void* to, std::size_t bytes) const {
    if (bytes > 0)
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "cudaMemcpyAsync to the host");
    synchronize();
  }
  void synchronize() const { check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize"); }

  /// f(i) for i < n, in any order.
  template <class F>
  void call_each(std::int64_t n, F const& f) const {
    if (n == 0) return;
    detail::call_each<<<blocks_of(n), block_threads, 0, stream()>>>(n, f);
    check_launch("call_each");
  }
  /// f(i, lanes) for i < n, by the lanes of a warp together.
  template <class F>
  void call_each_by_lanes(std::int64_t n, F const& f) const {
    if (n == 0) return;
    detail::call_each_by_warp<<<blocks_of(n * warp_lanes::count), block_threads, 0, stream()>>>(n, f);
    check_launch("call_each_by_warp");
  }
  /// f(slot, position) for all slots of all jobs.
  template <class Job>
  void visit(std::span<Job const> jobs) const {
    in_tables(jobs, [&](auto const& table) {
      visit_jobs<<<static_cast<unsigned>(table.blocks()), block_threads, 0, stream()>>>(table);
      check_launch("visit_jobs");
    });
  }
  /// *sum += Σ f(slot, position). Extra memory: a sum for each 2,048 slots.
  template <class Job, class Sum>
  void sum(std::span<Job const> jobs, Sum* sum) const {
    in_tables(jobs, [&](auto const& table) {
      auto parts = scratch<Sum>(table.blocks());
      sum_jobs<Sum><<<static_cast<unsigned>(table.blocks()), block_threads, 0, stream()>>>(table, parts.data());
      check_launch("sum_jobs");
      add_parts<<<1, block_threads, 0, stream()>>>(parts.data(), table.blocks(), sum);
      check_launch("add_parts");
    });
  }

  /// to[i] = Σ_{j < i} f(j) for i < n.
  template <class F>
  void exclusive_sum(std::int64_t n, F const& f, std::int64_t* to) const {
    auto const values = thrust::make_transform_iterator(thrust::counting_iterator<std::int64_t>{0}, f);
    with_temporary([&](void* memory, std::size_t& bytes) {
      return cub::DeviceScan::ExclusiveScan(memory, bytes, values, to, plus{}, std::int64_t{0}, n, stream());
    });
  }
  /// keys[0 … n - 1] in ascending order.
  void sort(buffer<std::uint64_t>& keys, std::int64_t n) const {
    auto sorted = scratch<std::uint64_t>(n);
    with_temporary([&](void* memory, std::size_t& bytes) {
      return cub::DeviceRadixSort::SortKeys(memory, bytes, keys.data(), sorted.data(), n, 0, 64, stream());
    });
    keys = std::move(sorted);
  }
  /// Pairs in ascending order of keys, those of one key as they were.
  void sort(buffer<std::int64_t>& keys, buffer<std::int64_t>& values, std::int64_t n) const {
    auto sorted_keys = scratch<std::int64_t>(n);
    auto sorted_values = scratch<std::int64_t>(n);
    with_temporary([&](void* memory, std::size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(memory, bytes, keys.data(), sorted_keys.data(), values.data(),
                                             sorted_values.data(), n, 0, 64, stream());
    });
    keys = std::move(sorted_keys);
    values = std::move(sorted_values);
  }
  /// bins[f(i)] += 1 for i < n where f(i) is below most_bins.
  template <class F>
  void count(std::int64_t n, F const& f, std::uint64_t* bins) const {
    if (n == 0) return;
    constexpr unsigned most_blocks = 2048;
    count_bins<<<std::min(most_blocks, blocks_of(n)), block_threads, 0, stream()>>>(n, f, bins);
    check_launch("count_bins");
  }

  /// to[c · pitch + r] = from[r · row_stride + c] for r < rows, c < cols; of another dtype where T is a Real.
  template <Scalar From, Scalar T>
  void transpose(From const* from, std::int64_t row_stride, std::int64_t rows, std::int64_t cols, T* to,
                 std::int64_t pitch) const {
    auto const tiles = ((rows + tile_side - 1) / tile_side) * ((cols + tile_side - 1) / tile_side);
    if (tiles == 0) return;
    auto const launch = [&](auto elements, auto* result) {
      transpose_tiles<<<static_cast<unsigned>(tiles), tile_side * tile_rows, 0, stream()>>>(elements, row_stride, rows,
                                                                                            cols, result, pitch);
      check_launch("transpose_tiles");
    };
    if constexpr (!std::is_same_v<From, T>)
      launch(converted_elements<From, T>{from}, to);
    else if constexpr (Real<T>)
      launch(from, to);
    else
      launch(reinterpret_cast<std::uint16_t const*>(from), reinterpret_cast<std::uint16_t*>(to));
  }

  /// C = a · b + keep · C, row-major, C [count, rows, cols] without gaps between matrices; sums in C's type.
  template <Real C>
  void multiply(product_shape const& s, operand const& a, operand const& b, C keep, C* to, std::int64_t pitch) const {
    // Row-major is the transpose in column-major: Cᵀ = bᵀ aᵀ.
    auto const operation = [](operand const& o) { return o.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    auto const computing = std::is_same_v<C, double>            ? CUBLAS_COMPUTE_64F
                           : tf32() && a.type == dtype::float32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                : CUBLAS_COMPUTE_32F;
    C const one = 1;
    check(cublasGemmStridedBatchedEx_64(context_->blas(), operation(b), operation(a), s.cols, s.rows, s.inner, &one,
                                        b.data, data_type_of(b.type), b.pitch, b.stride, a.data, data_type_of(a.type),
                                        a.pitch, a.stride, &keep, to, data_type_of(dtype_of<C>), pitch, s.rows * pitch,
                                        s.count, computing, CUBLAS_GEMM_DEFAULT),
          "cublasGemmStridedBatchedEx");
  }

  /// X = W⁻¹ X for `count` symmetric positive definite W [n, n], by their Cholesky factors, which overwrite them;
  /// X [n, cols]. Small ones together, large ones one after the other.
  void solve(double* w, std::int64_t n, double* x, std::int64_t cols, std::int64_t count) const {
    constexpr std::int64_t small_side = 512;
    if (count > 1 && n <= small_side)
      solve_together(w, n, x, cols, count);
    else
      for (std::int64_t i = 0; i < count; ++i) solve_one(w + i * n * n, n, x + i * n * cols, cols);
  }

  /// A = V Σ Uᵀ for A [rows, cols], rows <= cols: sigma [rows] descending, v [rows, rows], and uᵀ [rows, cols] in u.
  /// A is overwritten. Waits.
  void decompose(double* a, std::int64_t rows, std::int64_t cols, double* sigma, double* v, double* u) const {
    // Aᵀ = U Σ Vᵀ in column-major; Vᵀ there is V here, and U there is Uᵀ here.
    std::size_t on_device = 0, on_host = 0;
    check(cusolverDnXgesvd_bufferSize(context_->solver(), context_->solver_parameters(), 'S', 'S', cols, rows,
                                      CUDA_R_64F, a, cols, CUDA_R_64F, sigma, CUDA_R_64F, u, cols, CUDA_R_64F, v, rows,
                                      CUDA_R_64F, &on_device, &on_host),
          "cusolverDnXgesvd_bufferSize");
    auto memory = scratch<std::byte>(static_cast<std::int64_t>(on_device));
    auto info = scratch<int>(1);
    std::vector<std::byte> host_memory(on_host);
    check(cusolverDnXgesvd(context_->solver(), context_->solver_parameters(), 'S', 'S', cols, rows, CUDA_R_64F, a, cols,
                           CUDA_R_64F, sigma, CUDA_R_64F, u, cols, CUDA_R_64F, v, rows, CUDA_R_64F, memory.data(),
                           on_device, host_memory.data(), on_host, info.data()),
          "cusolverDnXgesvd");
    int unconverged = 0;
    download(info.data(), &unconverged, sizeof unconverged);  // waits, as host_memory must outlive the work
    sara::detail::require<error>(unconverged == 0, "cusolverDnXgesvd: expected a decomposition of a matrix [", rows,
                                 ", ", cols, "], got ", unconverged, " superdiagonals that did not converge");
  }

 private:
  [[nodiscard]] cudaStream_t stream() const noexcept { return context_->stream(); }

  // In column-major Xᵀ W⁻¹ = Xᵀ U⁻¹ U⁻ᵀ, with W = Uᵀ U.
  static constexpr cublasOperation_t solve_order[] = {CUBLAS_OP_N, CUBLAS_OP_T};

  void solve_one(double* w, std::int64_t n, double* x, std::int64_t cols) const {
    std::size_t on_device = 0, on_host = 0;
    check(cusolverDnXpotrf_bufferSize(context_->solver(), context_->solver_parameters(), CUBLAS_FILL_MODE_UPPER, n,
                                      CUDA_R_64F, w, n, CUDA_R_64F, &on_device, &on_host),
          "cusolverDnXpotrf_bufferSize");
    auto memory = scratch<std::byte>(static_cast<std::int64_t>(on_device));
    auto info = scratch<int>(1);
    std::vector<std::byte> host_memory(on_host);
    check(cusolverDnXpotrf(context_->solver(), context_->solver_parameters(), CUBLAS_FILL_MODE_UPPER, n, CUDA_R_64F, w,
                           n, CUDA_R_64F, memory.data(), on_device, host_memory.data(), on_host, info.data()),
          "cusolverDnXpotrf");
    if (on_host > 0) synchronize();  // host_memory must outlive the work; none was asked for in any version tried
    double const one = 1;
    for (auto const operation : solve_order)
      check(cublasDtrsm_64(context_->blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, operation, CUBLAS_DIAG_NON_UNIT,
                           cols, n, &one, w, n, x, cols),
            "cublasDtrsm");
  }

  void solve_together(double* w, std::int64_t n, double* x, std::int64_t cols, std::int64_t count) const {
    auto w_of = scratch<double*>(count);
    auto x_of = scratch<double*>(count);
    call_each(count, point_into{w, n * n, w_of.data()});
    call_each(count, point_into{x, n * cols, x_of.data()});
    auto info = scratch<int>(count);
    check(cusolverDnDpotrfBatched(context_->solver(), CUBLAS_FILL_MODE_UPPER, static_cast<int>(n), w_of.data(),
                                  static_cast<int>(n), info.data(), static_cast<int>(count)),
          "cusolverDnDpotrfBatched");
    double const one = 1;
    for (auto const operation : solve_order)
      check(cublasDtrsmBatched_64(context_->blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, operation,
                                  CUBLAS_DIAG_NON_UNIT, cols, n, &one, w_of.data(), n, x_of.data(), cols, count),
            "cublasDtrsmBatched");
  }

  [[nodiscard]] static unsigned blocks_of(std::int64_t threads) {
    return static_cast<unsigned>((threads + block_threads - 1) / block_threads);
  }
  static void check_launch(char const* kernel) { check(cudaGetLastError(), kernel); }

  /// CUB's two calls: how much memory it wants, then the work.
  template <class Call>
  void with_temporary(Call&& call) const {
    std::size_t bytes = 0;
    check(call(nullptr, bytes), "the size of CUB's temporary storage");
    auto memory = scratch<std::byte>(static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1)));
    check(call(memory.data(), bytes), "CUB's kernels");
  }

  std::shared_ptr<stream_context const> context_;
};

}  // namespace sara::cuda::detail
