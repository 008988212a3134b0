// SPDX-License-Identifier: Apache-2.0
// What the peers of bench/gpu get from the host: it can be right or wrong without a GPU.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/backprop/conv2d.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/tensor/traits.hpp>

#include "../../bench/gpu/peers/csr.hpp"
#include "../../bench/gpu/peers/im2col.hpp"
#include "../../bench/harness/numbers.hpp"

TEST_CASE("a pattern of compressed rows says where the positions are") {
  std::int64_t const rows = 37, cols = 53;
  auto const positions = bench::random_positions("positions", rows * cols, 0.1);
  bench::csr_pattern const pattern{positions, rows, cols};
  REQUIRE(pattern.offsets.size() == static_cast<std::size_t>(rows) + 1);
  CHECK(pattern.offsets.front() == 0);
  CHECK(pattern.offsets.back() == std::ssize(positions));
  std::vector<std::int64_t> got;
  for (std::int64_t row = 0; row < rows; ++row)
    for (auto i = pattern.offsets[static_cast<std::size_t>(row)];
         i < pattern.offsets[static_cast<std::size_t>(row) + 1]; ++i)
      got.push_back(row * cols + pattern.columns[static_cast<std::size_t>(i)]);
  CHECK(got == positions);
}

TEST_CASE("the product of a ready im2col is the gradient of the convolution") {
  for (std::int64_t const kernel : {1, 3}) {
    bench::square_convolution const c{5, 4, 6, kernel, 3};
    auto const dy = bench::uniform<float>("dy", c.out * c.along());
    auto const x = bench::uniform<float>("x", c.in * c.along());
    std::vector<float> columns(static_cast<std::size_t>(c.cols() * c.along()));
    std::vector<float> channels(static_cast<std::size_t>(c.out * c.along()));
    for (std::int64_t i = 0; i < std::ssize(columns); ++i) bench::copy_tap<float>{c, x.data(), columns.data()}(i, i);
    for (std::int64_t i = 0; i < std::ssize(channels); ++i)
      bench::copy_channel<float>{c, dy.data(), channels.data()}(i, i);

    std::vector<std::int64_t> every;
    std::vector<float> product;
    for (std::int64_t p = 0; p < c.out * c.cols(); ++p) {
      double sum = 0;
      for (std::int64_t k = 0; k < c.along(); ++k)
        sum += static_cast<double>(channels[static_cast<std::size_t>(p / c.cols() * c.along() + k)]) *
               static_cast<double>(columns[static_cast<std::size_t>(p % c.cols() * c.along() + k)]);
      every.push_back(p);
      product.push_back(static_cast<float>(sum));
    }
    sara::host const backend{1};
    sara::flat_index<sara::host> const store{backend, {c.out, c.cols()}, every.data(), std::ssize(every)};
    std::vector<float> gradient(every.size());
    sara::accumulate_conv2d(
        backend, {c.out, c.in, kernel, kernel}, sara::view(dy.data(), {c.batch, c.out, c.side, c.side}),
        sara::view(x.data(), {c.batch, c.in, c.side, c.side}), {.padding = {c.padding(), c.padding()}}, store.ref(),
        backend.plan_sampling(store.ref()), gradient.data());
    CHECK(bench::relative_difference(gradient, product) < 1e-6);
  }
}
