// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <sara/error.hpp>

namespace sara::cuda {

/// A call of the CUDA runtime, cuBLAS or cuSOLVER that failed. The text names the call, the code and its meaning.
class error : public sara::error {
 public:
  using sara::error::error;
};

namespace detail {

[[nodiscard]] inline char const* name_of(cusolverStatus_t status) {
  switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED:
      return "CUSOLVER_STATUS_NOT_INITIALIZED";
    case CUSOLVER_STATUS_ALLOC_FAILED:
      return "CUSOLVER_STATUS_ALLOC_FAILED";
    case CUSOLVER_STATUS_INVALID_VALUE:
      return "CUSOLVER_STATUS_INVALID_VALUE";
    case CUSOLVER_STATUS_ARCH_MISMATCH:
      return "CUSOLVER_STATUS_ARCH_MISMATCH";
    case CUSOLVER_STATUS_EXECUTION_FAILED:
      return "CUSOLVER_STATUS_EXECUTION_FAILED";
    case CUSOLVER_STATUS_INTERNAL_ERROR:
      return "CUSOLVER_STATUS_INTERNAL_ERROR";
    default:
      return "an error of cuSOLVER";
  }
}

}  // namespace detail

/// @throws error  unless the call succeeded
inline void check(cudaError_t status, char const* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  static_cast<void>(cudaGetLastError());  // so that the next call does not report this one's failure
  throw error(sara::detail::text(call, ": expected success, got ", cudaGetErrorName(status), " (",
                                 static_cast<int>(status), "): ", cudaGetErrorString(status)));
}
inline void check(cublasStatus_t status, char const* call) {
  sara::detail::require<error>(status == CUBLAS_STATUS_SUCCESS, call, ": expected success, got ",
                               cublasGetStatusName(status), " (", static_cast<int>(status),
                               "): ", cublasGetStatusString(status));
}
inline void check(cusolverStatus_t status, char const* call) {
  sara::detail::require<error>(status == CUSOLVER_STATUS_SUCCESS, call, ": expected success, got ",
                               detail::name_of(status), " (", static_cast<int>(status), ")");
}

}  // namespace sara::cuda
