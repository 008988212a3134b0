// SPDX-License-Identifier: Apache-2.0
#include "machine.hpp"

#include <sara/backend/thread_pool.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "streams.hpp"

namespace bench {

namespace {

/// So many independent sums that nothing waits for a result, each as wide as a register, so that registers hold them.
constexpr int sums = 12;
constexpr int width = __BIGGEST_ALIGNMENT__ / sizeof(float);
using lanes [[gnu::vector_size(width * sizeof(float))]] = float;

constexpr int fma_rounds = 1 << 20;

[[gnu::noinline]] float multiply_add(float factor) {
  lanes sum[sums];
  for (int i = 0; i < sums; ++i) sum[i] = lanes{} + static_cast<float>(i);
  lanes const x = lanes{} + factor, y = lanes{} + 0.5F;
  for (int round = 0; round < fma_rounds; ++round)
    for (auto& s : sum) s = s * x + y;
  lanes total{};
  for (auto const& s : sum) total += s;
  float result = 0;
  for (int i = 0; i < width; ++i) result += total[i];
  return result;
}

template <class F>
double fastest(int times, F&& f) {
  double best = 1e300;
  for (int i = 0; i < times; ++i) {
    auto const begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

machine machine::measure(int threads) {
  sara::thread_pool pool{threads};
  auto const parts = static_cast<std::size_t>(pool.size());
  std::vector<float> kept(parts);
  auto const compute = fastest(5, [&] {
    pool.parallel_for(pool.size(), [&](std::int64_t i) { kept[static_cast<std::size_t>(i)] = multiply_add(0.999F); });
  });
  constexpr std::int64_t words = std::int64_t{1} << 24;  // 128 MiB: larger than any cache
  std::vector<std::uint64_t> const memory(static_cast<std::size_t>(words), 1);
  std::vector<std::uint64_t> seen(parts);
  auto const stream = fastest(7, [&] { read_all(pool, std::as_bytes(std::span{memory}), seen); });
  float const volatile keep_sums = kept.front();
  volatile std::uint64_t const keep_words = seen.front();
  static_cast<void>(keep_sums);
  static_cast<void>(keep_words);
  return {2.0 * fma_rounds * sums * width * pool.size() / compute, 8.0 * static_cast<double>(words) / stream, {}};
}

}  // namespace bench
