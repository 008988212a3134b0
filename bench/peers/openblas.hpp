// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cblas.h>

#include <cstdint>
#include <vector>

namespace bench {

/// What a user does without sara: the dense weight gradient dYᵀX by OpenBLAS, then the wanted entries of it.
class openblas_linear {
 public:
  openblas_linear(std::int64_t batch, std::int64_t out, std::int64_t in, std::vector<std::int32_t> index, int threads)
      : threads_{threads},
        batch_{static_cast<int>(batch)},
        out_{static_cast<int>(out)},
        in_{static_cast<int>(in)},
        index_{std::move(index)},
        dense_(static_cast<std::size_t>(out * in)),
        gradient_(index_.size()) {}

  void run(float const* dy, float const* x) {
    openblas_set_num_threads(threads_);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out_, in_, batch_, 1, dy, out_, x, in_, 0, dense_.data(), in_);
    for (std::size_t j = 0; j < index_.size(); ++j) gradient_[j] = dense_[static_cast<std::size_t>(index_[j])];
  }

  [[nodiscard]] std::vector<float> const& gradient() const { return gradient_; }
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(4 * (index_.size() + dense_.size() + gradient_.size()));
  }

 private:
  int threads_, batch_, out_, in_;
  std::vector<std::int32_t> index_;
  std::vector<float> dense_;
  std::vector<float> gradient_;
};

}  // namespace bench
