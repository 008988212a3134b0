// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sara/cuda/device.cuh>

#include "../../harness/case.hpp"
#include "../../harness/numbers.hpp"
#include "move_bytes.cuh"

namespace bench {

/// Bytes of device memory that are handed out, and the most of them since a moment.
class device_meter {
 public:
  void add(std::int64_t bytes) {
    alive_ += bytes;
    highest_ = std::max(highest_, alive_);
  }
  void begin() { highest_ = alive_; }
  [[nodiscard]] std::int64_t alive() const { return alive_; }
  [[nodiscard]] std::int64_t highest() const { return highest_; }

 private:
  std::int64_t alive_ = 0, highest_ = 0;
};

/// The parts of the library's products, which it chooses from by density.
struct device_parts : sara::cuda::device {
  explicit device_parts(sara::cuda::device const& gpu) : device{gpu} {}
  using device::machine;
};

/// Where contenders take turns: a device whose memory is counted, and what times work on its stream. Peers work on the
/// same stream with memory from the same pool, and their cuBLAS has as much workspace as the library's.
class station {
 public:
  explicit station(bool tf32)
      : tf32_{tf32},
        gpu_{sara::cuda::device_options{counting(meter_), tf32}},
        other_data_{gpu_.allocate<std::byte>(other_bytes)} {
    using sara::cuda::check;
    check(cudaEventCreate(&begin_), "cudaEventCreate");
    check(cudaEventCreate(&end_), "cudaEventCreate");
    check(cublasCreate(&blas_), "cublasCreate");
    check(cublasSetStream(blas_, gpu_.stream()), "cublasSetStream");
    check(cublasSetWorkspace(blas_, workspace_.data(), workspace_.size()), "cublasSetWorkspace");
  }
  station(station const&) = delete;
  station& operator=(station const&) = delete;

  [[nodiscard]] sara::cuda::device const& gpu() const { return gpu_; }
  [[nodiscard]] cudaStream_t stream() const { return gpu_.stream(); }
  [[nodiscard]] bool tf32() const { return tf32_; }
  /// Of the peers.
  [[nodiscard]] cublasHandle_t blas() const { return blas_; }
  [[nodiscard]] device_meter& meter() const { return *meter_; }

  /// Seconds from the start of f's work on the stream to its end. Caches are cold: other data has been read, which
  /// leaves nothing to be written back, and takes long enough for the host to be ahead with launches, so that short
  /// work is not measured with the launching.
  template <class F>
  [[nodiscard]] double seconds_of(F&& f) {
    using sara::cuda::check;
    move_bytes(stream(), other_data_.data(), other_bytes, nullptr, 0, sink_.data());
    check(cudaEventRecord(begin_, stream()), "cudaEventRecord");
    f();
    check(cudaEventRecord(end_, stream()), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  static constexpr std::int64_t other_bytes = std::int64_t{256} << 20;  // more than second-level caches have
  static constexpr std::int64_t workspace_bytes = sara::cuda::detail::stream_context::workspace_bytes;

  [[nodiscard]] static sara::cuda::allocator counting(std::shared_ptr<device_meter> const& meter) {
    auto const pool = sara::cuda::stream_pool();
    return {[=](std::size_t bytes, cudaStream_t stream) {
              auto* const out = pool.allocate(bytes, stream);
              meter->add(static_cast<std::int64_t>(bytes));
              return out;
            },
            [=](void* p, std::size_t bytes, cudaStream_t stream) {
              pool.deallocate(p, bytes, stream);
              meter->add(-static_cast<std::int64_t>(bytes));
            }};
  }

  bool tf32_;
  std::shared_ptr<device_meter> meter_ = std::make_shared<device_meter>();
  sara::cuda::device gpu_;
  sara::cuda::buffer<std::byte> other_data_;
  sara::cuda::buffer<unsigned> sink_ = gpu_.allocate<unsigned>(1);
  sara::cuda::buffer<std::byte> workspace_ = gpu_.allocate<std::byte>(workspace_bytes);
  cublasHandle_t blas_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// The station for float32 and 16 bits, or the one whose products of float32 are in TF32. Made at the first call, and
/// never destroyed: the driver may have gone before static objects go.
[[nodiscard]] inline station& station_of(bool tf32) {
  static station* stations[2] = {};
  if (!stations[tf32]) stations[tf32] = new station{tf32};
  return *stations[tf32];
}

/// A contender timed on the device. Its bytes are those it holds beside the inputs, and the most that it allocates
/// while it runs.
template <class F>
[[nodiscard]] contender on_device(station& at, std::string name, std::int64_t held, F f,
                                  std::function<double()> difference = {}) {
  auto const most = std::make_shared<std::int64_t>(0);
  auto const run = [&at, most, f = std::move(f)]() mutable {
    auto const before = at.meter().alive();
    at.meter().begin();
    auto const seconds = at.seconds_of(f);
    *most = std::max(*most, at.meter().highest() - before);
    return seconds;
  };
  return {.name = std::move(name), .run = run, .difference = std::move(difference), .measured_bytes = [=] {
            return held + *most;
          }};
}

namespace detail {
template <class T>
struct set_uniform {
  std::uint64_t stream;
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
    to[i] = uniform_at<T>(stream, static_cast<std::uint64_t>(i));
  }
};
}  // namespace detail

/// As bench::uniform, the same numbers, made on the device.
template <class T>
[[nodiscard]] sara::cuda::buffer<T> uniform_on(station const& at, std::string_view name, std::int64_t n) {
  auto out = at.gpu().allocate<T>(n);
  sara::for_each(at.gpu(), sara::all_positions{n}, detail::set_uniform<T>{sara::stream_of(name), out.data()});
  return out;
}

/// A copy of the host's numbers.
template <class T>
[[nodiscard]] sara::cuda::buffer<T> placed_on(station const& at, std::vector<T> const& values) {
  auto out = at.gpu().allocate<T>(std::ssize(values));
  at.gpu().upload(std::span{values}, out.data());
  return out;
}

/// A copy for the host.
template <class T>
[[nodiscard]] std::vector<T> taken_from(station const& at, sara::cuda::buffer<T> const& values) {
  std::vector<T> out(values.size());
  at.gpu().download(values.data(), std::span{out});
  return out;
}

/// dtype as the table writes it.
template <class T>
[[nodiscard]] std::string dtype_name(bool tf32) {
  return tf32 ? "tf32" : sara::name_of(sara::dtype_of<T>);
}

}  // namespace bench
