// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <utility>
#include <vector>

namespace bench {

/// A matrix with values at given positions, column-major, as SVDs take it; and U_r V_rᵀ of it at these positions.
class dense_polar {
 public:
  dense_polar(std::int64_t rows, std::int64_t cols, std::vector<std::int32_t> index)
      : rows_{rows}, cols_{cols}, index_{std::move(index)}, result_(index_.size()) {}

  void by_lapack(float const* values, int threads);
  void by_eigen(float const* values, int threads);

  [[nodiscard]] std::vector<float> const& result() const { return result_; }
  /// The matrix, U, Vᵀ and their product.
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(4 * (2 * rows_ * cols_ + std::min(rows_, cols_) * (rows_ + cols_)));
  }

 private:
  using matrix = Eigen::MatrixXf;

  [[nodiscard]] matrix dense(float const* values) const;
  /// Takes U [rows, side] and Vᵀ [side, cols] with their singular values, descending.
  void finish(matrix const& u, matrix const& vt, float const* sigma, std::int64_t side);

  std::int64_t rows_, cols_;
  std::vector<std::int32_t> index_;
  std::vector<float> result_;
};

}  // namespace bench
