// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cusparse.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include <sara/cuda/context.hpp>
#include <sara/cuda/error.hpp>

#include "../harness/station.cuh"
#include "csr.hpp"
#include "cublas.cuh"

namespace bench {

inline void check(cusparseStatus_t status, char const* call) {
  sara::detail::require<sara::cuda::error>(status == CUSPARSE_STATUS_SUCCESS, call, ": expected success, got ",
                                           cusparseGetErrorName(status), ": ", cusparseGetErrorString(status));
}

namespace detail {
/// to[c, r] = from[r, c].
template <class T>
struct transpose_entry {
  T const* from;
  std::int64_t rows, cols;
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = from[i % rows * cols + i / rows]; }
};
}  // namespace detail

/// dYᵀ X at the entries of a pattern by cusparseSDDMM, after its preprocessing. It gets dY and X as it reads them best,
/// neighbours along the batch side by side; bringing them there is not timed.
template <class T>
class sddmm {
 public:
  /// @throws sara::cuda::error  where cuSPARSE does not know the dtype
  sddmm(station& at, std::int64_t out, std::int64_t in, std::int64_t batch, std::vector<std::int64_t> const& positions,
        T const* dy, T const* x)
      : at_{at}, dy_{transposed(at, dy, batch, out)}, x_{transposed(at, x, batch, in)} {
    csr_pattern const pattern{positions, out, in};
    offsets_ = placed_on(at, pattern.offsets);
    columns_ = placed_on(at, pattern.columns);
    values_ = at.gpu().allocate<float>(std::ssize(positions));
    cusparseHandle_t handle = nullptr;
    check(cusparseCreate(&handle), "cusparseCreate");
    handle_.reset(handle);
    check(cusparseSetStream(handle, at.stream()), "cusparseSetStream");
    // dYᵀ [out, batch] by rows, X [batch, in] by columns
    cusparseDnMatDescr_t dense = nullptr;
    check(cusparseCreateDnMat(&dense, out, batch, batch, dy_.data(), data_type<T>, CUSPARSE_ORDER_ROW),
          "cusparseCreateDnMat");
    left_.reset(dense);
    check(cusparseCreateDnMat(&dense, batch, in, batch, x_.data(), data_type<T>, CUSPARSE_ORDER_COL),
          "cusparseCreateDnMat");
    right_.reset(dense);
    cusparseSpMatDescr_t sparse = nullptr;
    check(cusparseCreateCsr(&sparse, out, in, std::ssize(positions), offsets_.data(), columns_.data(), values_.data(),
                            CUSPARSE_INDEX_32I, CUSPARSE_INDEX_32I, CUSPARSE_INDEX_BASE_ZERO, CUDA_R_32F),
          "cusparseCreateCsr");
    sampled_.reset(sparse);
    std::size_t bytes = 0;
    check(cusparseSDDMM_bufferSize(handle_.get(), plain, plain, &one_, left_.get(), right_.get(), &zero_,
                                   sampled_.get(), CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT, &bytes),
          "cusparseSDDMM_bufferSize");
    memory_ = at.gpu().allocate<std::byte>(static_cast<std::int64_t>(bytes) + 1);
    check(cusparseSDDMM_preprocess(handle_.get(), plain, plain, &one_, left_.get(), right_.get(), &zero_,
                                   sampled_.get(), CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT, memory_.data()),
          "cusparseSDDMM_preprocess");
  }
  void run() {
    check(cusparseSDDMM(handle_.get(), plain, plain, &one_, left_.get(), right_.get(), &zero_, sampled_.get(),
                        CUDA_R_32F, CUSPARSE_SDDMM_ALG_DEFAULT, memory_.data()),
          "cusparseSDDMM");
  }

  [[nodiscard]] std::vector<float> gradient() const { return taken_from(at_, values_); }
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(4 * (offsets_.size() + columns_.size() + values_.size()) + memory_.size());
  }

 private:
  static constexpr auto plain = CUSPARSE_OPERATION_NON_TRANSPOSE;

  [[nodiscard]] static sara::cuda::buffer<T> transposed(station& at, T const* from, std::int64_t rows,
                                                        std::int64_t cols) {
    auto out = at.gpu().allocate<T>(rows * cols);
    sara::for_each(at.gpu(), sara::all_positions{rows * cols},
                   detail::transpose_entry<T>{from, rows, cols, out.data()});
    return out;
  }

  station& at_;
  sara::cuda::buffer<T> dy_, x_;
  sara::cuda::buffer<std::int32_t> offsets_, columns_;
  sara::cuda::buffer<float> values_;
  sara::cuda::buffer<std::byte> memory_;
  sara::cuda::detail::owned_handle<cusparseHandle_t, cusparseDestroy> handle_;
  sara::cuda::detail::owned_handle<cusparseDnMatDescr_t, cusparseDestroyDnMat> left_, right_;
  sara::cuda::detail::owned_handle<cusparseSpMatDescr_t, cusparseDestroySpMat> sampled_;
  float const one_ = 1, zero_ = 0;
};

}  // namespace bench
