// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <sara/cuda.cuh>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "executor.hpp"

namespace unet {

namespace detail {

inline constexpr int block_size = 256;

template <class F>
static __global__ void __launch_bounds__(block_size) run_bodies(std::int64_t rows, std::int64_t columns, F f) {
  auto const column = static_cast<std::int64_t>(blockIdx.x) * block_size + threadIdx.x;
  if (column >= columns) return;
  for (auto row = static_cast<std::int64_t>(blockIdx.y); row < rows; row += gridDim.y)
    f(row, static_cast<std::int32_t>(column));
}

/// Sums rows, `Width` threads each: first each thread its columns in order, then the threads pairwise.
template <int Width, class F, class Finish>
static __global__ void __launch_bounds__(block_size)
    sum_rows(std::int64_t rows, std::int64_t columns, F f, Finish finish) {
  using sum_type = decltype(f(std::int64_t{}, std::int32_t{}));
  // Bytes, as memory that a block shares may have no constructor.
  __shared__ alignas(sum_type) unsigned char memory[block_size * sizeof(sum_type)];
  auto* const part = reinterpret_cast<sum_type*>(memory);
  int const thread = static_cast<int>(threadIdx.x), lane = thread % Width;
  auto const row = static_cast<std::int64_t>(blockIdx.x) * (block_size / Width) + thread / Width;
  sum_type sum{};
  if (row < rows)
    for (std::int64_t column = lane; column < columns; column += Width)
      sum = sum + f(row, static_cast<std::int32_t>(column));
  part[thread] = sum;
  for (int half = Width / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) part[thread] = part[thread] + part[thread + half];
  }
  if (lane == 0 && row < rows) finish(row, part[thread]);
}

template <class T>
[[nodiscard]] constexpr cudaDataType_t data_type() {
  return std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;
}

}  // namespace detail

/// The executor on a CUDA device, on the stream of a sara::cuda::device: kernels, and cuBLAS in float32 (not TF32), or
/// with bfloat16 factors and float32 sums. Nothing waits but upload and download; the same bits every time.
class cuda_executor {
 public:
  using real = float;
  static constexpr auto where = sara::memory::cuda;

  /// @param narrow  convolutions round their factors to bfloat16
  /// @throws sara::cuda::error
  cuda_executor(sara::cuda::device device, bool narrow) : device_{std::move(device)}, narrow_{narrow} {
    auto const here = enter();
    cublasHandle_t handle = nullptr;
    sara::cuda::check(cublasCreate(&handle), "cublasCreate");
    blas_.reset(handle, [ordinal = device_.ordinal()](cublasHandle_t h) {
      sara::cuda::detail::current_device const there{ordinal, std::nothrow};
      static_cast<void>(cublasDestroy(h));
    });
    sara::cuda::check(cublasSetStream(handle, device_.stream()), "cublasSetStream");
    int cache = 0;
    sara::cuda::check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device_.ordinal()),
                      "cudaDeviceGetAttribute");
    // The product should find them in the second-level cache; a small cache is no reason for small products.
    column_room_ = std::max(cache, 32 << 20) / static_cast<std::int64_t>(sizeof(float));
  }

  template <class T>
  [[nodiscard]] auto allocate(std::int64_t n) const {
    return device_.template allocate<T>(n);
  }
  template <class T>
  void upload(std::span<T const> from, std::type_identity_t<T>* to) const {
    device_.upload(from, to);
  }
  template <class T>
  void download(std::type_identity_t<T> const* from, std::span<T> to) const {
    device_.download(from, to);
  }

  template <class F>
  void launch(std::int64_t rows, std::int64_t columns, F const& f) const {
    if (rows == 0 || columns == 0) return;
    require_size("launch", columns);
    auto const here = enter();
    auto const blocks = static_cast<unsigned>((columns + detail::block_size - 1) / detail::block_size);
    auto const height = static_cast<unsigned>(std::min<std::int64_t>(rows, 65535));
    detail::run_bodies<<<dim3{blocks, height}, detail::block_size, 0, device_.stream()>>>(rows, columns, f);
    sara::cuda::check(cudaGetLastError(), "run_bodies");
  }

  template <class F, class Finish>
  void reduce(std::int64_t rows, std::int64_t columns, F const& f, Finish const& finish) const {
    if (rows == 0) return;
    require_size("reduce", columns);
    require_size("reduce", rows);
    auto const here = enter();
    // A warp is enough for a short row, and leaves the others of its block to other rows.
    constexpr int narrow_width = 32;
    auto const blocks = [&](std::int64_t rows_of_block) {
      return static_cast<unsigned>((rows + rows_of_block - 1) / rows_of_block);
    };
    if (columns <= 8 * narrow_width)
      detail::sum_rows<narrow_width>
          <<<blocks(detail::block_size / narrow_width), detail::block_size, 0, device_.stream()>>>(rows, columns, f,
                                                                                                   finish);
    else
      detail::sum_rows<detail::block_size>
          <<<blocks(1), detail::block_size, 0, device_.stream()>>>(rows, columns, f, finish);
    sara::cuda::check(cudaGetLastError(), "sum_rows");
  }

  template <class Operand>
  void multiply(matrix_product<float, Operand> const& p) const {
    if (p.rows == 0 || p.columns == 0 || p.count == 0) return;
    auto const here = enter();
    // Row-major is the transpose in column-major: Cᵀ = Bᵀ Aᵀ.
    auto const operation = [](factor<Operand> const& f) { return f.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
    auto const type = detail::data_type<Operand>();
    if (p.count == 1)
      sara::cuda::check(cublasGemmEx_64(blas_.get(), operation(p.b), operation(p.a), p.columns, p.rows, p.depth,
                                        &p.alpha, p.b.data, type, p.b.pitch, p.a.data, type, p.a.pitch, &p.beta, p.c,
                                        CUDA_R_32F, p.pitch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                        "cublasGemmEx");
    else
      sara::cuda::check(cublasGemmStridedBatchedEx_64(blas_.get(), operation(p.b), operation(p.a), p.columns, p.rows,
                                                      p.depth, &p.alpha, p.b.data, type, p.b.pitch, p.b.step, p.a.data,
                                                      type, p.a.pitch, p.a.step, &p.beta, p.c, CUDA_R_32F, p.pitch,
                                                      p.step, p.count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                        "cublasGemmStridedBatchedEx");
  }

  [[nodiscard]] bool narrow() const { return narrow_; }
  [[nodiscard]] std::int64_t column_room() const { return column_room_; }

 private:
  /// Makes the device the current one until the result ends.
  [[nodiscard]] sara::cuda::detail::current_device enter() const {
    return sara::cuda::detail::current_device{device_.ordinal()};
  }
  /// Bodies get their column in 32 bits.
  static void require_size(char const* what, std::int64_t size) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    sara::detail::require<sara::shape_error>(size <= most, what, ": expected at most ", most, " numbers in a row, got ",
                                             size, "; use a smaller batch");
  }

  sara::cuda::device device_;
  std::shared_ptr<cublasContext> blas_;
  bool narrow_;
  std::int64_t column_room_ = 0;
};

static_assert(executor<cuda_executor>);

}  // namespace unet
