// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>

#include <cstdint>
#include <cub/device/device_select.cuh>
#include <type_traits>
#include <vector>

#include <sara/tensor/dtype.hpp>

#include "../harness/station.cuh"

namespace bench {

template <class T>
inline constexpr cudaDataType_t data_type = std::is_same_v<T, double>           ? CUDA_R_64F
                                            : std::is_same_v<T, float>          ? CUDA_R_32F
                                            : std::is_same_v<T, sara::bfloat16> ? CUDA_R_16BF
                                                                                : CUDA_R_16F;

/// A row-major factor of a product, or its transpose.
struct factor {
  void const* data;
  cudaDataType_t type;
  std::int64_t pitch;
  bool transposed;

  template <class T>
  [[nodiscard]] static factor of(T const* data, std::int64_t pitch, bool transposed = false) {
    return {data, data_type<T>, pitch, transposed};
  }
};

struct product_size {
  std::int64_t rows, cols, inner;
};

/// C = a b, all row-major and C dense, by one call of cuBLAS; sums are float32, or float64 for float64.
template <class C>
void multiply(station const& at, product_size const& s, factor const& a, factor const& b, C* to) {
  // row-major is the transpose in column-major: Cᵀ = bᵀ aᵀ
  auto const operation = [](factor const& f) { return f.transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  using scale = std::conditional_t<std::is_same_v<C, double>, double, float>;
  auto const computing = std::is_same_v<C, double>           ? CUBLAS_COMPUTE_64F
                         : at.tf32() && a.type == CUDA_R_32F ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                             : CUBLAS_COMPUTE_32F;
  scale const one = 1, zero = 0;
  sara::cuda::check(
      cublasGemmEx_64(at.blas(), operation(b), operation(a), s.cols, s.rows, s.inner, &one, b.data, b.type, b.pitch,
                      a.data, a.type, a.pitch, &zero, to, data_type<C>, s.cols, computing, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

/// A boolean mask of a matrix, and the entries that it takes: dense[mask], by cub::DeviceSelect.
class masked_gather {
 public:
  masked_gather(station& at, std::vector<std::int64_t> const& positions, std::int64_t size)
      : at_{at},
        mask_{placed_on(at, mask_of(positions, size))},
        taken_{at.gpu().allocate<float>(std::ssize(positions))},
        count_{at.gpu().allocate<std::int64_t>(1)} {
    std::size_t bytes = 0;
    select(nullptr, bytes, nullptr);
    memory_ = at.gpu().allocate<std::byte>(static_cast<std::int64_t>(bytes) + 1);
  }

  void take(float const* dense) {
    auto bytes = memory_.size();
    select(memory_.data(), bytes, dense);
  }

  [[nodiscard]] std::vector<float> taken() const { return taken_from(at_, taken_); }
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(mask_.size() + 4 * taken_.size() + memory_.size());
  }

 private:
  [[nodiscard]] static std::vector<std::uint8_t> mask_of(std::vector<std::int64_t> const& positions,
                                                         std::int64_t size) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(size));
    for (auto const p : positions) out[static_cast<std::size_t>(p)] = 1;
    return out;
  }

  void select(void* memory, std::size_t& bytes, float const* dense) {
    sara::cuda::check(cub::DeviceSelect::Flagged(memory, bytes, dense, mask_.data(), taken_.data(), count_.data(),
                                                 static_cast<std::int64_t>(mask_.size()), at_.stream()),
                      "cub::DeviceSelect::Flagged");
  }

  station& at_;
  sara::cuda::buffer<std::uint8_t> mask_;
  sara::cuda::buffer<float> taken_;
  sara::cuda::buffer<std::int64_t> count_;
  sara::cuda::buffer<std::byte> memory_;
};

}  // namespace bench
