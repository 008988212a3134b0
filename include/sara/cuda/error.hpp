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

struct status_words {
  char const *name, *meaning;
};

/// As cuSOLVER's manual has them, since the library says neither.
[[nodiscard]] inline status_words words_of(cusolverStatus_t status) {
  switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED:
      return {"CUSOLVER_STATUS_NOT_INITIALIZED", "the library was not initialized"};
    case CUSOLVER_STATUS_ALLOC_FAILED:
      return {"CUSOLVER_STATUS_ALLOC_FAILED", "resource allocation failed inside the library"};
    case CUSOLVER_STATUS_INVALID_VALUE:
      return {"CUSOLVER_STATUS_INVALID_VALUE", "an unsupported value or parameter was passed to the function"};
    case CUSOLVER_STATUS_ARCH_MISMATCH:
      return {"CUSOLVER_STATUS_ARCH_MISMATCH", "the function requires a feature absent from the device"};
    case CUSOLVER_STATUS_EXECUTION_FAILED:
      return {"CUSOLVER_STATUS_EXECUTION_FAILED", "the GPU program failed to execute"};
    case CUSOLVER_STATUS_INTERNAL_ERROR:
      return {"CUSOLVER_STATUS_INTERNAL_ERROR", "an internal operation of the library failed"};
    case CUSOLVER_STATUS_NOT_SUPPORTED:
      return {"CUSOLVER_STATUS_NOT_SUPPORTED", "the combination of parameters is not supported"};
    default:
      return {"an error of cuSOLVER", "see cusolver_common.h"};
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
  if (status == CUSOLVER_STATUS_SUCCESS) [[likely]]
    return;
  auto const [name, meaning] = detail::words_of(status);
  throw error(
      sara::detail::text(call, ": expected success, got ", name, " (", static_cast<int>(status), "): ", meaning));
}

}  // namespace sara::cuda
