// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/backprop/conv2d.hpp>
#include <sara/backprop/linear.hpp>
#include <sara/select/below.hpp>
#include <sara/select/ranked.hpp>
#include <sara/select/select.hpp>
#include <sara/store/row_index.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"
#include "loop_executor.cuh"

// What is written for the lanes of a warp, by 32 threads of the host that wait for each other.

namespace {

using sara::test::loop_executor;

class meeting {
 public:
  static constexpr int count = 32;

  /// What every lane brings, once all have.
  template <class T>
  [[nodiscard]] std::array<T, count> exchange(int lane, T const& mine) {
    std::memcpy(brought_[static_cast<std::size_t>(lane)].data(), &mine, sizeof(T));
    all_here_.arrive_and_wait();
    std::array<T, count> out;
    for (std::size_t l = 0; l < count; ++l) std::memcpy(&out[l], brought_[l].data(), sizeof(T));
    all_here_.arrive_and_wait();
    return out;
  }

 private:
  std::barrier<> all_here_{count};
  std::array<std::array<std::byte, 16>, count> brought_{};
};

struct thread_lanes {
  static constexpr int count = meeting::count;
  int id = 0;
  meeting* others = nullptr;

  template <class T>
  [[nodiscard]] SARA_HOST_DEVICE T sum(T x) const {
#ifndef __CUDA_ARCH__
    T total{};
    for (T const& one : others->exchange(id, x)) total += one;
    return total;
#else
    return x;
#endif
  }
  [[nodiscard]] SARA_HOST_DEVICE std::uint32_t ballot(bool yes) const {
    std::uint32_t out = 0;
#ifndef __CUDA_ARCH__
    auto const said = others->exchange(id, yes);
    for (std::size_t l = 0; l < count; ++l) out |= static_cast<std::uint32_t>(said[l]) << l;
#endif
    return out;
  }
};

/// Loops, but warps are warps.
struct warp_executor : loop_executor {
  using loop_executor::loop_executor;

  template <class F>
  void call_each_by_lanes(std::int64_t n, F const& f) const {
    meeting others;
    std::vector<std::jthread> warp;
    for (int lane = 0; lane < meeting::count; ++lane)
      warp.emplace_back([&, lane] {
        for (std::int64_t i = 0; i < n; ++i) f(i, thread_lanes{lane, &others});
      });
  }
};
using warp_device = sara::cuda::basic_device<warp_executor>;

constexpr double never_dense = 2;

/// f on a device of warps and on one of loops.
template <class F>
auto both(F const& f, double dense_density = never_dense) {
  return std::pair{f(warp_device{warp_executor{dense_density}}),
                   f(sara::test::loop_device{loop_executor{dense_density}})};
}

}  // namespace

TEST_CASE("a warp selects what a loop selects") {
  for (std::int64_t const size : {1, 31, 64, 255, 256, 257, 700}) {
    CAPTURE(size);
    auto weights = sara::test::uniform<float>("warp", size, 4);
    for (auto& w : weights) w = std::round(w * 8) / 8;  // many are equal
    for (std::size_t i = 5; i < weights.size(); i += 50) weights[i] = std::numeric_limits<float>::infinity();
    std::vector<sara::const_named_tensor> const named{{"w", sara::const_tensor_view{weights.data(), {1, size}}}};
    auto const check = [&](auto const& selector) {
      auto const [by_warps, by_loops] = both([&](auto const& device) {
        auto found = sara::select(device, std::span<sara::const_named_tensor const>{named}, selector);
        return std::pair{found[0].count, std::vector<std::int64_t>(found[0].positions.begin(),
                                                                   found[0].positions.begin() + found[0].count)};
      });
      CHECK(by_warps == by_loops);
      CHECK(by_loops.first > 0);
    };
    check(sara::below{.threshold = 3});
    check(sara::smallest{.count = (size + 2) / 3});
  }
}

TEST_CASE_TEMPLATE("a warp's products are a loop's", T, float, double, sara::bfloat16) {
  using R = sara::widened<T>;
  constexpr double bound = std::is_same_v<R, double> ? 1e-13 : 1e-5;
  SUBCASE("of a Linear layer") {
    std::int64_t const batch = 71, out = 5, in = 9;
    auto const dy = sara::test::uniform<T>("dy", batch * out), x = sara::test::uniform<T>("x", batch * in);
    std::vector<std::int64_t> const positions{0, 3, 4, 8, 9, 17, 30, 43, 44};
    auto const [by_warps, by_loops] = both([&]<class Device>(Device const& device) {
      sara::row_index<Device> const store{device, {out, in}, positions.data(), std::ssize(positions)};
      std::vector<R> gradient(positions.size());
      sara::accumulate_linear(device, sara::const_tensor_view{dy.data(), {batch, out}},
                              sara::const_tensor_view{x.data(), {batch, in}}, store.ref(), gradient.data());
      return gradient;
    });
    CHECK(sara::test::difference(by_warps, by_loops, {bound, bound}) == "");
  }
  SUBCASE("of a convolution") {
    auto const dy = sara::test::uniform<T>("dy", 2 * 4 * 5 * 5), x = sara::test::uniform<T>("x", 2 * 3 * 5 * 5);
    std::vector<std::int64_t> const positions{0, 4, 13, 26, 27, 60, 107};
    for (double const dense_density : {never_dense, 0.0}) {
      CAPTURE(dense_density);
      auto const [by_warps, by_loops] = both(
          [&]<class Device>(Device const& device) {
            sara::row_index<Device> const store{device, {4, 27}, positions.data(), std::ssize(positions)};
            std::vector<R> gradient(positions.size());
            sara::accumulate_conv2d(device, {4, 3, 3, 3}, sara::const_tensor_view{dy.data(), {2, 4, 5, 5}},
                                    sara::const_tensor_view{x.data(), {2, 3, 5, 5}}, {.padding = {1, 1}}, store.ref(),
                                    gradient.data());
            return gradient;
          },
          dense_density);
      CHECK(sara::test::difference(by_warps, by_loops, {bound, bound}) == "");
    }
  }
}

TEST_CASE("a warp's norms are a loop's") {
  std::int64_t const size = 5000, count = 2;
  auto const x = sara::test::uniform<double>("squares", size * count);
  auto const norms = [&](auto const& executor) {
    std::vector<double> out(static_cast<std::size_t>(count));
    sara::cuda::detail::root_of_squares(executor, x.data(), count, size, 2, out.data());
    return out;
  };
  CHECK(sara::test::difference(norms(warp_executor{0}), norms(loop_executor{0}), {0, 1e-13}) == "");
}
