// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <sara/cuda/allocator.hpp>
#include <sara/cuda/error.hpp>

namespace sara::cuda::detail {

/// The calling thread's current CUDA device, until the end of a scope.
class current_device {
 public:
  explicit current_device(int ordinal) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != ordinal) check(cudaSetDevice(ordinal), "cudaSetDevice");
    changed_ = before_ != ordinal;
  }
  /// For destructors, which may run when the driver has gone already.
  current_device(int ordinal, std::nothrow_t) noexcept
      : changed_{cudaGetDevice(&before_) == cudaSuccess && before_ != ordinal &&
                 cudaSetDevice(ordinal) == cudaSuccess} {}
  ~current_device() {
    if (changed_) static_cast<void>(cudaSetDevice(before_));
  }
  current_device(current_device const&) = delete;
  current_device& operator=(current_device const&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// Something of the CUDA libraries that is destroyed with its owner.
template <class Handle, auto Destroy>
struct destroy_handle {
  using pointer = Handle;
  void operator()(Handle handle) const noexcept { static_cast<void>(Destroy(handle)); }
};
template <class Handle, auto Destroy>
using owned_handle = std::unique_ptr<std::remove_pointer_t<Handle>, destroy_handle<Handle, Destroy>>;

/// A stream, where its memory comes from, and the handles of the libraries that work on it; copies of a device and
/// their buffers share one.
class stream_context {
 public:
  /// What cuBLAS may use beside operands and result; given beforehand, so that it allocates nothing itself, its results
  /// are the same bits every time, and its work can be captured.
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  /// @param stream  borrowed, null for the current device's default one; none for a non-blocking one of its own
  /// @param memory  empty for stream_pool()
  /// @throws error
  stream_context(std::optional<cudaStream_t> stream, allocator memory, bool tf32)
      : stream_context{ordinal_of(stream.value_or(nullptr)), tf32} {
    current_device const here{ordinal_};
    if (stream) {
      stream_ = *stream;
    } else {
      check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
      own_stream_.reset(stream_);
    }
    memory_ = memory.allocate ? std::move(memory) : stream_pool();
    cublasHandle_t blas = nullptr;
    check(cublasCreate(&blas), "cublasCreate");
    blas_.reset(blas);
    check(cublasSetStream(blas, stream_), "cublasSetStream");
    cusolverDnHandle_t solver = nullptr;
    check(cusolverDnCreate(&solver), "cusolverDnCreate");
    solver_.reset(solver);
    check(cusolverDnSetStream(solver, stream_), "cusolverDnSetStream");
    cusolverDnParams_t parameters = nullptr;
    check(cusolverDnCreateParams(&parameters), "cusolverDnCreateParams");
    solver_parameters_.reset(parameters);
    workspace_ = memory_.allocate(workspace_bytes, stream_);
    check(cublasSetWorkspace(blas, workspace_, workspace_bytes), "cublasSetWorkspace");
  }
  ~stream_context() {
    current_device const here{ordinal_, std::nothrow};
    if (workspace_) memory_.deallocate(workspace_, workspace_bytes, stream_);
    solver_parameters_.reset();
    solver_.reset();
    blas_.reset();
    memory_ = {};
    own_stream_.reset();
  }
  stream_context(stream_context const&) = delete;
  stream_context& operator=(stream_context const&) = delete;

  [[nodiscard]] int ordinal() const noexcept { return ordinal_; }
  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_; }
  /// By the device's allocator; the device must be entered. @throws error
  [[nodiscard]] void* allocate(std::size_t bytes) const { return memory_.allocate(bytes, stream_); }
  void deallocate(void* p, std::size_t bytes) const noexcept {
    current_device const here{ordinal_, std::nothrow};
    memory_.deallocate(p, bytes, stream_);
  }
  void release_unused() const {
    if (memory_.release_unused) memory_.release_unused();
  }
  [[nodiscard]] bool tf32() const noexcept { return tf32_; }
  [[nodiscard]] cublasHandle_t blas() const noexcept { return blas_.get(); }
  [[nodiscard]] cusolverDnHandle_t solver() const noexcept { return solver_.get(); }
  [[nodiscard]] cusolverDnParams_t solver_parameters() const noexcept { return solver_parameters_.get(); }

 private:
  /// Delegated to, so that the destructor runs where the public constructor throws.
  stream_context(int ordinal, bool tf32) : ordinal_{ordinal}, tf32_{tf32} {}

  static int ordinal_of(cudaStream_t stream) {
    int ordinal = 0;
    if (stream)
      check(cudaStreamGetDevice(stream, &ordinal), "cudaStreamGetDevice");
    else
      check(cudaGetDevice(&ordinal), "cudaGetDevice");
    return ordinal;
  }

  int ordinal_;
  bool tf32_;
  owned_handle<cudaStream_t, cudaStreamDestroy> own_stream_;
  cudaStream_t stream_ = nullptr;
  allocator memory_;
  owned_handle<cublasHandle_t, cublasDestroy> blas_;
  owned_handle<cusolverDnHandle_t, cusolverDnDestroy> solver_;
  owned_handle<cusolverDnParams_t, cusolverDnDestroyParams> solver_parameters_;
  void* workspace_ = nullptr;
};

}  // namespace sara::cuda::detail
