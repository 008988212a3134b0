// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <thrust/device_vector.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <sara/cuda.cuh>

#include "../support/compare.hpp"
#include "../support/placed.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"
#include "places.cuh"

// What only a device does. Without one, what can be said of errors alone is checked.

namespace {

using sara::cuda::device;
using sara::test::complaint;
using sara::test::place;
using sara::test::random_positions;
using sara::test::uniform;

bool no_device() {
  if (sara::test::cuda_devices() > 0) return false;
  MESSAGE("no CUDA device: skipped");
  return true;
}

/// A Linear layer's tensors on a device, with a tuner of its weight.
struct layer {
  static constexpr std::int64_t batch = 64, out = 96, in = 128;

  explicit layer(device const& gpu)
      : weight{place(gpu, uniform<float>("w", out * in, 0.01))},
        dy{place(gpu, uniform<float>("dy", batch * out))},
        x{place(gpu, uniform<float>("x", batch * in))} {}

  [[nodiscard]] std::vector<sara::named_tensor> weights() { return {{"w", weight.view({out, in})}}; }

  template <class Tuner>
  void backward(Tuner& tuner) {
    tuner["w"].accumulate(dy.view({batch, out}), x.view({batch, in}));
  }

  sara::test::placed<device, float> weight, dy, x;
};

template <class Regularizer = sara::nuclear_norm>
auto tuner_of(device const& gpu, layer& l, Regularizer const& regularizer = {.weight = 1e-3}) {
  return sara::fine_tuner{gpu, l.weights(), sara::below{.threshold = 2e-3}, regularizer,
                          sara::constant_rate{.rate = 1e-3}};
}

/// What a call puts on a device's stream, captured.
class graph {
 public:
  template <class Work>
  graph(device const& gpu, Work&& work) {
    sara::cuda::check(cudaStreamBeginCapture(gpu.stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    work();
    cudaGraph_t captured = nullptr;
    sara::cuda::check(cudaStreamEndCapture(gpu.stream(), &captured), "cudaStreamEndCapture");
    auto const status = cudaGraphInstantiate(&runnable_, captured, 0);
    static_cast<void>(cudaGraphDestroy(captured));
    sara::cuda::check(status, "cudaGraphInstantiate");
  }
  ~graph() { static_cast<void>(cudaGraphExecDestroy(runnable_)); }
  graph(graph const&) = delete;
  graph& operator=(graph const&) = delete;

  void replay(device const& gpu) const {
    sara::cuda::check(cudaGraphLaunch(runnable_, gpu.stream()), "cudaGraphLaunch");
  }

 private:
  cudaGraphExec_t runnable_ = nullptr;
};

}  // namespace

TEST_CASE("a failed call is named with its code and meaning") {
  CHECK(complaint<sara::cuda::error>([] { sara::cuda::check(cudaErrorMemoryAllocation, "cudaMallocAsync"); },
                                     {"cudaMallocAsync", "cudaErrorMemoryAllocation", "(2)", "out of memory"}) == "");
  CHECK(complaint<sara::cuda::error>([] { sara::cuda::check(CUBLAS_STATUS_EXECUTION_FAILED, "cublasGemmEx"); },
                                     {"cublasGemmEx", "CUBLAS_STATUS_EXECUTION_FAILED", "(13)"}) == "");
  CHECK(complaint<sara::error>([] { sara::cuda::check(CUSOLVER_STATUS_ALLOC_FAILED, "cusolverDnXpotrf"); },
                               {"cusolverDnXpotrf", "CUSOLVER_STATUS_ALLOC_FAILED", "(2)", "allocation failed"}) == "");
  sara::cuda::check(cudaSuccess, "nothing");
}

TEST_CASE("without a device, a device is an error that says so") {
  if (sara::test::cuda_devices() > 0) return;
  CHECK(complaint<sara::cuda::error>([] { static_cast<void>(device{}); }, {"expected success, got cudaError"}) == "");
}

TEST_CASE("a host pointer is no device tensor") {
  if (no_device()) return;
  std::vector<float> const on_host(4);
  CHECK(complaint<sara::memory_error>([&] { static_cast<void>(sara::cuda::view(on_host.data(), {4})); },
                                      {"[4]", "device memory"}) == "");
  thrust::device_vector<float> vector(6, 2.0f);
  auto const v = sara::view(vector);
  CHECK(v.where() == sara::memory::cuda);
  CHECK(v.shape() == sara::extents{6});
  CHECK(sara::cuda::view(vector.data().get(), {2, 3}).where() == sara::memory::cuda);
}

TEST_CASE("a borrowed stream orders the work") {
  if (no_device()) return;
  cudaStream_t stream = nullptr;
  sara::cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  {
    device const gpu{stream};
    CHECK(gpu.stream() == stream);
    auto column = gpu.allocate<float>(1 << 20);
    sara::set_zero(gpu, column.data(), 1 << 20);
    auto const copy = gpu;
    sara::for_each(copy, sara::all_positions{1 << 20}, sara::detail::set_one<float>{column.data()});
    std::vector<float> got(1 << 20);
    gpu.download(column.data(), std::span{got});
    CHECK(got == std::vector<float>(1 << 20, 1.0f));
  }
  sara::cuda::check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

TEST_CASE("a user's allocator is used, and gets everything back") {
  if (no_device()) return;
  auto const held = std::make_shared<std::int64_t>(0);
  auto const pool = sara::cuda::stream_pool();
  sara::cuda::allocator const counting{[=](std::size_t bytes, cudaStream_t stream) {
                                         *held += static_cast<std::int64_t>(bytes);
                                         return pool.allocate(bytes, stream);
                                       },
                                       [=](void* p, std::size_t bytes, cudaStream_t stream) {
                                         *held -= static_cast<std::int64_t>(bytes);
                                         pool.deallocate(p, bytes, stream);
                                       }};
  {
    device const gpu{sara::cuda::device_options{.memory = counting}};
    auto const before = *held;
    {
      layer l{gpu};
      auto tuner = tuner_of(gpu, l);
      l.backward(tuner);
      tuner.step();
      CHECK(*held > before);
    }
    CHECK(*held == before);
  }
  CHECK(*held == 0);
}

TEST_CASE("memory that is not there is an error, and the device goes on") {
  if (no_device()) return;
  device const gpu;
  CHECK(complaint<sara::cuda::error>([&] { static_cast<void>(gpu.allocate<double>(std::int64_t{1} << 50)); },
                                     {"cudaMallocFromPoolAsync", "out of memory"}) == "");
  CHECK(gpu.allocate<double>(1000).size() == 1000);
  gpu.synchronize();
}

TEST_CASE("memory that the pool keeps goes back on demand") {
  if (no_device()) return;
  device const gpu;
  std::size_t const bytes = std::size_t{256} << 20;
  static_cast<void>(gpu.allocate<std::byte>(static_cast<std::int64_t>(bytes)));
  gpu.synchronize();
  std::size_t kept = 0, released = 0, total = 0;
  sara::cuda::check(cudaMemGetInfo(&kept, &total), "cudaMemGetInfo");
  gpu.release_unused();
  sara::cuda::check(cudaMemGetInfo(&released, &total), "cudaMemGetInfo");
  CHECK(released >= kept + bytes);
}

namespace {

/// A step that is captured and replayed does what a step does.
template <class Regularizer>
void check_capture(Regularizer const& regularizer) {
  device const gpu;
  layer eager_layer{gpu}, captured_layer{gpu};
  auto eager = tuner_of(gpu, eager_layer, regularizer);
  auto captured = tuner_of(gpu, captured_layer, regularizer);
  auto const step = [](auto& tuner, layer& l) {
    l.backward(tuner);
    tuner.step();
  };
  step(eager, eager_layer);  // plans and columns are there from now on
  step(captured, captured_layer);
  gpu.synchronize();

  step(eager, eager_layer);
  graph const whole_step{gpu, [&] { step(captured, captured_layer); }};
  whole_step.replay(gpu);
  gpu.synchronize();
  CHECK(captured_layer.weight.get() == eager_layer.weight.get());
}

}  // namespace

// Each regularizer is a case of its own: a library that cannot be captured hides nothing else.
TEST_CASE("a step is captured, without low-rank loss") {
  if (!no_device()) check_capture(sara::no_regularizer{});
}
TEST_CASE("a step is captured, with polar_express") {
  if (!no_device()) check_capture(sara::nuclear_norm{.weight = 1e-3, .engine = sara::polar_express{}});
}
TEST_CASE("a step is captured, with qdwh") {
  if (!no_device()) check_capture(sara::nuclear_norm{.weight = 1e-3, .engine = sara::qdwh{}});
}

TEST_CASE("a captured backward pass is replayed between steps") {
  if (no_device()) return;
  device const gpu;
  layer eager_layer{gpu}, captured_layer{gpu};
  auto eager = tuner_of(gpu, eager_layer, sara::no_regularizer{});
  auto captured = tuner_of(gpu, captured_layer, sara::no_regularizer{});
  captured_layer.backward(captured);  // plans and columns are there from now on
  captured.zero_gradient();
  graph const backward{gpu, [&] { captured_layer.backward(captured); }};
  captured.zero_gradient();
  for (int replay = 0; replay < 3; ++replay) {
    backward.replay(gpu);
    captured["w"].expect_gradient();
    captured.step();
    eager_layer.backward(eager);
    eager.step();
  }
  gpu.synchronize();
  CHECK(captured_layer.weight.get() == eager_layer.weight.get());
}

TEST_CASE("TF32 is within 1e-2 of float32") {
  if (no_device()) return;
  device const exact, fast{sara::cuda::device_options{.tf32 = true}};
  std::int64_t const side = 256, batch = 512;
  auto const every = sara::test::every_position(side * side);
  auto const gradient = [&](device const& gpu) {
    auto const dy = place(gpu, uniform<float>("dy", batch * side));
    auto const x = place(gpu, uniform<float>("x", batch * side));
    auto const there = place(gpu, every);
    sara::row_index<device> const store{gpu, {side, side}, there.data(), std::ssize(every)};
    auto out = place(gpu, std::vector<float>(every.size()));
    sara::accumulate_linear(gpu, dy.view({batch, side}), x.view({batch, side}), store.ref(), out.data());
    return out.get();
  };
  auto const a = gradient(exact);
  auto const b = gradient(fast);
  CHECK(a != b);
  CHECK(sara::test::difference(b, a, {1e-2 * std::sqrt(static_cast<double>(batch)), 0}) == "");
}

TEST_CASE("two devices side by side") {
  if (sara::test::cuda_devices() < 2) {
    MESSAGE("fewer than two CUDA devices: skipped");
    return;
  }
  std::vector<device> devices;
  for (int ordinal : {0, 1}) {
    sara::cuda::check(cudaSetDevice(ordinal), "cudaSetDevice");
    devices.emplace_back();
    CHECK(devices.back().ordinal() == ordinal);
  }
  sara::cuda::check(cudaSetDevice(0), "cudaSetDevice");
  std::vector<std::vector<float>> weights;
  for (auto const& gpu : devices) {
    layer l{gpu};
    auto tuner = tuner_of(gpu, l);
    l.backward(tuner);
    tuner.step();
    weights.push_back(l.weight.get());
  }
  CHECK(weights[0] == weights[1]);
}

TEST_CASE("a tensor of more than 2^31 weights") {
  if (no_device()) return;
  std::size_t available = 0, total = 0;
  sara::cuda::check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  if (available < (std::size_t{10} << 30)) {
    MESSAGE("less than 10 GiB of device memory: skipped");
    return;
  }
  device const gpu;
  auto const size = (std::int64_t{1} << 31) + 12'345;
  auto weights = gpu.allocate<sara::float16>(size);  // zeros
  auto const far = place(gpu, std::vector<std::int64_t>{7, (std::int64_t{1} << 31) + 11});
  auto const large = place(gpu, std::vector<float>{2, 3});
  sara::tensor_view const tensor{weights.data(), {1, size}, sara::memory::cuda};
  sara::row_index<device> const store{gpu, {1, size}, far.data(), 2};
  sara::scatter(gpu, large.data(), store.ref(), tensor);
  std::vector<sara::const_named_tensor> const named{{"w", tensor}};
  auto const found =
      sara::select(gpu, std::span<sara::const_named_tensor const>{named}, sara::largest{.count = std::int64_t{2}});
  std::vector<std::int64_t> got(2);
  REQUIRE(found[0].count == 2);
  gpu.download(found[0].positions.data(), std::span{got});
  CHECK(got == std::vector<std::int64_t>{7, (std::int64_t{1} << 31) + 11});
}
