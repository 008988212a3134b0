// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <cstdio>
#include <map>
#include <string>

#include "../peers/cublas.cuh"
#include "station.cuh"
#include "streams.cuh"

namespace bench {

namespace {

template <class F>
double fastest(int times, station& at, F&& f) {
  double best = 1e300;
  for (int i = 0; i < times; ++i) best = std::min(best, at.seconds_of(f));
  return best;
}

/// Flops a second of a product whose sides are long enough for full tiles and short enough for a fraction of a second.
template <class T>
double product_speed(bool tf32) {
  constexpr std::int64_t side = 8192;
  auto& at = station_of(tf32);
  auto const a = uniform_on<T>(at, "a", side * side), b = uniform_on<T>(at, "b", side * side);
  auto c = at.gpu().allocate<sara::widened<T>>(side * side);
  auto const seconds = fastest(4, at, [&] {
    multiply(at, {side, side, side}, factor::of(a.data(), side), factor::of(b.data(), side, true), c.data());
  });
  return 2.0 * side * side * side / seconds;
}

double speed_in(std::string const& dtype) {
  if (dtype == "float64") return product_speed<double>(false);
  if (dtype == "bfloat16") return product_speed<sara::bfloat16>(false);
  if (dtype == "float16") return product_speed<sara::float16>(false);
  return product_speed<float>(dtype == "tf32");
}

double read_speed() {
  constexpr std::int64_t bytes = std::int64_t{2} << 30;
  auto& at = station_of(false);
  auto const data = at.gpu().allocate<std::byte>(bytes);
  auto sink = at.gpu().allocate<unsigned>(1);
  auto const seconds = fastest(7, at, [&] { move_bytes(at.stream(), data.data(), bytes, nullptr, 0, sink.data()); });
  return static_cast<double>(bytes) / seconds;
}

double copy_speed() {
  constexpr std::int64_t bytes = std::int64_t{1} << 30;
  auto& at = station_of(false);
  auto data = at.gpu().allocate<std::byte>(2 * bytes);
  auto const seconds = fastest(7, at, [&] {
    sara::cuda::check(cudaMemcpyAsync(data.data() + bytes, data.data(), bytes, cudaMemcpyDeviceToDevice, at.stream()),
                      "cudaMemcpyAsync");
  });
  return 2.0 * static_cast<double>(bytes) / seconds;
}

}  // namespace

void require_device() {
  int count = 0;
  sara::cuda::check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  sara::detail::require<sara::cuda::error>(count > 0, "expected a CUDA device, found none");
}

machine device_limits(benchmark const& b) {
  static std::map<std::string, machine> known;
  static double const read = read_speed();
  auto const [found, is_new] = known.try_emplace(b.dtype);
  if (is_new) {
    cudaDeviceProp properties{};
    sara::cuda::check(cudaGetDeviceProperties(&properties, station_of(false).gpu().ordinal()),
                      "cudaGetDeviceProperties");
    if (known.size() == 1)
      std::printf("Limits of %s: %.0f GB/s read from memory, %.0f GB/s read and written by a copy\n", properties.name,
                  read * 1e-9, copy_speed() * 1e-9);
    found->second = {speed_in(b.dtype), read, properties.name};
    std::printf("Limits of %s: %.1f TFLOP/s in %s, a product of cuBLAS\n", properties.name,
                found->second.flops_per_second * 1e-12, b.dtype.c_str());
  }
  return found->second;
}

}  // namespace bench
