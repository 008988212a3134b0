// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cusolverDn.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/cuda/context.hpp>

#include "../harness/station.cuh"
#include "cublas.cuh"

namespace bench {

/// U_r V_rᵀ at given positions as one writes it with cuSOLVER: the matrix dense in float32, cusolverDnXgesvd, the
/// product of its factors up to the numerical rank, and the entries of that.
template <class Positions>
class xgesvd_factor {
 public:
  /// @param positions  in a matrix [rows, cols], rows <= cols
  xgesvd_factor(station& at, Positions positions)
      : at_{at},
        positions_{positions},
        rows_{positions.shape().rows},
        cols_{positions.shape().cols},
        a_{at.gpu().allocate<float>(rows_ * cols_)},
        u_{at.gpu().allocate<float>(rows_ * cols_)},
        v_{at.gpu().allocate<float>(rows_ * rows_)},
        sigma_{at.gpu().allocate<float>(rows_)},
        result_{at.gpu().allocate<float>(positions.count())},
        info_{at.gpu().allocate<int>(1)} {
    using sara::cuda::check;
    cusolverDnHandle_t handle = nullptr;
    check(cusolverDnCreate(&handle), "cusolverDnCreate");
    handle_.reset(handle);
    check(cusolverDnSetStream(handle, at.stream()), "cusolverDnSetStream");
    cusolverDnParams_t parameters = nullptr;
    check(cusolverDnCreateParams(&parameters), "cusolverDnCreateParams");
    parameters_.reset(parameters);
    std::size_t on_host = 0;
    check(cusolverDnXgesvd_bufferSize(handle_.get(), parameters_.get(), 'S', 'S', cols_, rows_, CUDA_R_32F, a_.data(),
                                      cols_, CUDA_R_32F, sigma_.data(), CUDA_R_32F, u_.data(), cols_, CUDA_R_32F,
                                      v_.data(), rows_, CUDA_R_32F, &on_device_, &on_host),
          "cusolverDnXgesvd_bufferSize");
    memory_ = at.gpu().allocate<std::byte>(static_cast<std::int64_t>(on_device_) + 1);
    host_memory_.resize(on_host + 1);
  }
  void run(float const* values) {
    sara::set_zero(at_.gpu(), a_.data(), rows_ * cols_);
    sara::scatter(at_.gpu(), values, positions_, view(a_));
    // In column-major the row-major A is Aᵀ [cols, rows] = U Σ Vᵀ, as tall as Xgesvd wants it. Read by rows, its
    // result U is Uᵀ [rows, cols], and its Vᵀ is V [rows, rows].
    sara::cuda::check(cusolverDnXgesvd(handle_.get(), parameters_.get(), 'S', 'S', cols_, rows_, CUDA_R_32F, a_.data(),
                                       cols_, CUDA_R_32F, sigma_.data(), CUDA_R_32F, u_.data(), cols_, CUDA_R_32F,
                                       v_.data(), rows_, CUDA_R_32F, memory_.data(), on_device_, host_memory_.data(),
                                       host_memory_.size() - 1, info_.data()),
                      "cusolverDnXgesvd");
    auto const sigma = taken_from(at_, sigma_);
    auto const smallest = static_cast<float>(cols_) * std::numeric_limits<float>::epsilon() * sigma[0];
    std::int64_t rank = 0;
    while (rank < rows_ && sigma[static_cast<std::size_t>(rank)] > smallest) ++rank;
    multiply(at_, {rows_, cols_, rank}, factor::of(v_.data(), rows_), factor::of(u_.data(), cols_), a_.data());
    sara::gather(at_.gpu(), view(a_), positions_, result_.data());
  }

  [[nodiscard]] std::vector<float> result() const { return taken_from(at_, result_); }
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(4 * (a_.size() + u_.size() + v_.size() + sigma_.size() + result_.size()) +
                                     memory_.size());
  }

 private:
  [[nodiscard]] sara::tensor_view view(sara::cuda::buffer<float>& matrix) const {
    return {matrix.data(), {rows_, cols_}, sara::memory::cuda};
  }

  station& at_;
  Positions positions_;
  std::int64_t rows_, cols_;
  sara::cuda::buffer<float> a_, u_, v_, sigma_, result_;
  sara::cuda::buffer<int> info_;
  sara::cuda::buffer<std::byte> memory_;
  std::size_t on_device_ = 0;
  std::vector<std::byte> host_memory_;
  sara::cuda::detail::owned_handle<cusolverDnHandle_t, cusolverDnDestroy> handle_;
  sara::cuda::detail::owned_handle<cusolverDnParams_t, cusolverDnDestroyParams> parameters_;
};

}  // namespace bench
