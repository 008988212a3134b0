// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <sara/backend/counter_random.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::test {

/// Random numbers one after the other; a name stands for one and the same sequence everywhere.
class sequence {
 public:
  explicit sequence(std::string_view name) : stream_{stream_of(name)} {}

  std::uint64_t bits() { return counter_bits(2024, stream_, next_++); }
  /// Uniform in [first, last].
  std::int64_t integer(std::int64_t first, std::int64_t last) {
    return first + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(last - first + 1));
  }
  /// Uniform in [-1, 1).
  double real() { return static_cast<double>(bits() >> 11) * 0x1p-52 - 1; }

 private:
  std::uint64_t stream_;
  std::uint64_t next_ = 0;
};

/// n numbers uniform in [-scale, scale), rounded to T.
template <Scalar T>
[[nodiscard]] std::vector<T> uniform(std::string_view name, std::int64_t n, double scale = 1) {
  sequence numbers{name};
  std::vector<T> out(static_cast<std::size_t>(n));
  for (auto& x : out) x = narrow<T>(scale * numbers.real());
  return out;
}

/// Ascending positions in [0, size): each with the probability `density`.
[[nodiscard]] inline std::vector<std::int64_t> random_positions(std::string_view name, std::int64_t size,
                                                                double density) {
  sequence numbers{name};
  std::vector<std::int64_t> out;
  for (std::int64_t p = 0; p < size; ++p)
    if (numbers.real() < 2 * density - 1) out.push_back(p);
  return out;
}

}  // namespace sara::test
