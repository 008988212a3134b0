// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "examples/unet/cuda/executor.hpp"
#include "examples/unet/random.hpp"

/// What every executor must do, for the one of plain loops and for the one on a CUDA device.
namespace unet::test {

/// to[row, column] += 1 + row - column: a visit too many or too few shows.
struct count_visits {
  float* to;
  std::int64_t columns;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    to[row * columns + column] += static_cast<float>(1 + row - column);
  }
};

/// Σ value and Σ value · column, of values that a row of floats holds.
struct weighted_entry {
  float const* x;
  std::int64_t columns;
  SARA_HOST_DEVICE two_sums operator()(std::int64_t row, std::int32_t column) const {
    auto const value = static_cast<double>(x[row * columns + column]);
    return {value, value * column};
  }
};
struct plain_entry {
  float const* x;
  std::int64_t columns;
  SARA_HOST_DEVICE double operator()(std::int64_t row, std::int32_t column) const {
    return static_cast<double>(x[row * columns + column]);
  }
};
struct store_sums {
  float* to;
  SARA_HOST_DEVICE void operator()(std::int64_t row, two_sums sums) const {
    to[2 * row] = static_cast<float>(sums.first);
    to[2 * row + 1] = static_cast<float>(sums.second);
  }
  SARA_HOST_DEVICE void operator()(std::int64_t row, double sum) const { to[row] = static_cast<float>(sum); }
};

[[nodiscard]] inline std::vector<float> numbers(std::uint64_t seed, std::int64_t n) {
  std::vector<float> out(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(2 * random_uniform(seed, i) - 1);
  return out;
}

template <executor Executor, class T>
[[nodiscard]] auto on_device(Executor const& machine, std::vector<T> const& values) {
  auto buffer = machine.template allocate<T>(static_cast<std::int64_t>(values.size()));
  machine.upload(std::span<T const>{values}, buffer.data());
  return buffer;
}
template <executor Executor, class T>
[[nodiscard]] std::vector<T> on_host(Executor const& machine, T const* from, std::int64_t n) {
  std::vector<T> out(static_cast<std::size_t>(n));
  machine.download(from, std::span{out});
  return out;
}

struct extents_of_loop {
  std::int64_t rows;
  std::int64_t columns;
};

template <executor Executor>
void check_launch(Executor const& machine) {
  // Shorter and longer than a block; more rows than a grid is high.
  for (auto const& size :
       std::initializer_list<extents_of_loop>{{1, 1}, {3, 1000}, {257, 31}, {70'000, 3}, {0, 5}, {5, 0}}) {
    auto const rows = size.rows, columns = size.columns;
    CAPTURE(rows);
    CAPTURE(columns);
    auto const memory = on_device(machine, std::vector<float>(static_cast<std::size_t>(rows * columns + 1), 0.5F));
    auto* const to = const_cast<float*>(memory.data());
    machine.launch(rows, columns, count_visits{to, columns});
    auto const found = on_host<Executor, float>(machine, to, rows * columns + 1);
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < rows * columns; ++i)
      wrong += found[static_cast<std::size_t>(i)] != 1.5F + static_cast<float>(i / columns - i % columns);
    CHECK(wrong == 0);
    CHECK(found.back() == 0.5F);
  }
}

template <executor Executor>
void check_reduce(Executor const& machine) {
  for (auto const& size :
       std::initializer_list<extents_of_loop>{{1, 1}, {13, 16}, {9, 256}, {5, 257}, {300, 1000}, {2, 70'000}}) {
    auto const rows = size.rows, columns = size.columns;
    CAPTURE(rows);
    CAPTURE(columns);
    auto const values = numbers(7, rows * columns);
    auto const x = on_device(machine, values);
    auto const sums = on_device(machine, std::vector<float>(static_cast<std::size_t>(3 * rows)));
    auto* const to = const_cast<float*>(sums.data());
    machine.reduce(rows, columns, weighted_entry{x.data(), columns}, store_sums{to});
    machine.reduce(rows, columns, plain_entry{x.data(), columns}, store_sums{to + 2 * rows});
    auto const found = on_host<Executor, float>(machine, to, 3 * rows);
    for (std::int64_t row = 0; row < rows; ++row) {
      two_sums expected;
      for (std::int64_t c = 0; c < columns; ++c)
        expected = expected + weighted_entry{values.data(), columns}(row, static_cast<std::int32_t>(c));
      auto const at = [&](std::int64_t i) { return static_cast<double>(found[static_cast<std::size_t>(i)]); };
      REQUIRE(at(2 * row) == doctest::Approx(expected.first).epsilon(1e-5));
      REQUIRE(at(2 * row + 1) == doctest::Approx(expected.second).epsilon(1e-5));
      REQUIRE(at(2 * rows + row) == at(2 * row));
    }
  }
}

/// Products of every combination of transposed factors, one and several, into the middle of larger matrices.
template <class Operand, executor Executor>
void check_multiply(Executor const& machine) {
  constexpr std::int64_t rows = 37, columns = 21, depth = 45, gap = 3;
  for (int const transposed : {0, 1, 2, 3})
    for (std::int64_t const count : {1, 3})
      for (float const beta : {0.0F, 1.0F, 0.5F}) {
        CAPTURE(transposed);
        CAPTURE(count);
        CAPTURE(beta);
        bool const a_transposed = transposed % 2 == 1, b_transposed = transposed / 2 == 1;
        auto const a_pitch = (a_transposed ? rows : depth) + gap, b_pitch = (b_transposed ? depth : columns) + gap;
        auto const a_step = (a_transposed ? depth : rows) * a_pitch,
                   b_step = (b_transposed ? columns : depth) * b_pitch;
        // Results lie side by side in the rows of one matrix, as the images of an activation do.
        auto const pitch = count * columns + gap;
        auto const operands = [](std::vector<float> const& from) {
          std::vector<Operand> out;
          for (float const value : from) out.push_back(static_cast<Operand>(value));
          return out;
        };
        auto const a_values = operands(numbers(1, count * a_step)), b_values = operands(numbers(2, count * b_step));
        auto const c_values = numbers(3, rows * pitch);
        auto const a = on_device(machine, a_values), b = on_device(machine, b_values);
        auto const c = on_device(machine, c_values);
        auto* const to = const_cast<float*>(c.data());
        machine.multiply(matrix_product<float, Operand>{.rows = rows,
                                                        .columns = columns,
                                                        .depth = depth,
                                                        .a = {a.data(), a_pitch, a_transposed, a_step},
                                                        .b = {b.data(), b_pitch, b_transposed, b_step},
                                                        .c = to,
                                                        .pitch = pitch,
                                                        .step = columns,
                                                        .alpha = 2,
                                                        .beta = beta,
                                                        .count = count});
        auto const found = on_host<Executor, float>(machine, to, rows * pitch);
        double error = 0;
        for (std::int64_t row = 0; row < rows; ++row)
          for (std::int64_t column = 0; column < pitch; ++column) {
            auto const i = column / columns, inner = column % columns;
            auto const before = static_cast<double>(c_values[static_cast<std::size_t>(row * pitch + column)]);
            double expected = before;
            if (i < count) {
              double sum = 0;
              for (std::int64_t k = 0; k < depth; ++k) {
                auto const left = a_values[static_cast<std::size_t>(
                    i * a_step + (a_transposed ? k * a_pitch + row : row * a_pitch + k))];
                auto const right = b_values[static_cast<std::size_t>(
                    i * b_step + (b_transposed ? inner * b_pitch + k : k * b_pitch + inner))];
                sum += static_cast<double>(sara::widen(left)) * static_cast<double>(sara::widen(right));
              }
              expected = 2 * sum + static_cast<double>(beta) * before;
            }
            error = std::max(
                error, std::abs(static_cast<double>(found[static_cast<std::size_t>(row * pitch + column)]) - expected));
          }
        CHECK(error < 1e-4);
      }
}

}  // namespace unet::test
