// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <sara/tensor/view.hpp>

namespace sara::test {

/// The values of a view in row-major order, widened to float64, by an index walk of its own.
[[nodiscard]] inline std::vector<double> values_of(const_tensor_view const& v) {
  std::vector<double> out;
  extents index = v.shape();
  for (int d = 0; d < v.rank(); ++d) index[d] = 0;
  visit(v.type(), [&]<class T>() {
    auto const* data = reinterpret_cast<T const*>(v.bytes());
    for (std::int64_t n = 0; n < v.size(); ++n) {
      std::int64_t at = 0;
      for (int d = 0; d < v.rank(); ++d) at += index[d] * v.stride()[d];
      out.push_back(static_cast<double>(widen(data[at])));
      for (int d = v.rank() - 1; d >= 0 && ++index[d] == v.shape()[d]; --d) index[d] = 0;
    }
  });
  return out;
}

/// A tensor whose dimensions lie in memory in the order given, outermost first, with `gap` elements between
/// neighbours; what lies between is NaN, so that nobody reads it unnoticed.
template <Scalar T>
class laid_out {
 public:
  /// @param values  row-major
  template <class Value>
  laid_out(std::vector<Value> const& values, extents const& shape, extents const& outermost_first, std::int64_t gap = 0)
      : shape_{shape}, stride_{shape} {
    std::int64_t step = gap + 1;
    for (int k = shape.rank() - 1; k >= 0; --k) {
      auto const d = static_cast<int>(outermost_first[k]);
      stride_[d] = step;
      step *= shape[d];
    }
    data_.assign(static_cast<std::size_t>(step), narrow<T>(std::numeric_limits<widened<T>>::quiet_NaN()));
    auto const to = tensor_view{data_.data(), shape_, stride_}.template as<T>();
    for (std::size_t i = 0; i < values.size(); ++i)
      to[static_cast<std::int64_t>(i)] = narrow<T>(static_cast<widened<T>>(values[i]));
  }

  [[nodiscard]] const_tensor_view view() const { return {data_.data(), shape_, stride_}; }
  /// Elements in memory, gaps included.
  [[nodiscard]] std::int64_t size() const { return std::ssize(data_); }

 private:
  std::vector<T> data_;
  extents shape_;
  extents stride_;
};

}  // namespace sara::test
