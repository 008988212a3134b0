// SPDX-License-Identifier: Apache-2.0
#include "svd.hpp"

#include <cblas.h>

#include <Eigen/SVD>
#include <algorithm>
#include <limits>

extern "C" void sgesdd_(char const* job, int const* rows, int const* columns, float* a, int const* lda, float* sigma,
                        float* u, int const* ldu, float* vt, int const* ldvt, float* work, int const* size,
                        int* integers, int* status, std::size_t job_length);

namespace bench {

dense_polar::matrix dense_polar::dense(float const* values) const {
  matrix a = matrix::Zero(rows_, cols_);
  for (std::size_t j = 0; j < index_.size(); ++j) a(index_[j] / cols_, index_[j] % cols_) = values[j];
  return a;
}

void dense_polar::finish(matrix const& u, matrix const& vt, float const* sigma, std::int64_t side) {
  auto const smallest = static_cast<float>(std::max(rows_, cols_)) * std::numeric_limits<float>::epsilon() * sigma[0];
  std::int64_t rank = 0;
  while (rank < side && sigma[rank] > smallest) ++rank;
  matrix product(rows_, cols_);
  cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(rows_), static_cast<int>(cols_),
              static_cast<int>(rank), 1, u.data(), static_cast<int>(u.rows()), vt.data(), static_cast<int>(vt.rows()),
              0, product.data(), static_cast<int>(rows_));
  for (std::size_t j = 0; j < index_.size(); ++j) result_[j] = product(index_[j] / cols_, index_[j] % cols_);
}

void dense_polar::by_lapack(float const* values, int threads) {
  openblas_set_num_threads(threads);
  auto a = dense(values);
  int const m = static_cast<int>(rows_), n = static_cast<int>(cols_), side = std::min(m, n);
  matrix u(m, side), vt(side, n);
  std::vector<float> sigma(static_cast<std::size_t>(side));
  std::vector<int> integers(static_cast<std::size_t>(8 * side));
  int status = 0, query = -1;
  float size = 0;
  sgesdd_("S", &m, &n, a.data(), &m, sigma.data(), u.data(), &m, vt.data(), &side, &size, &query, integers.data(),
          &status, 1);
  auto const length = static_cast<int>(size);
  std::vector<float> work(static_cast<std::size_t>(length));
  sgesdd_("S", &m, &n, a.data(), &m, sigma.data(), u.data(), &m, vt.data(), &side, work.data(), &length,
          integers.data(), &status, 1);
  finish(u, vt, sigma.data(), side);
}

void dense_polar::by_eigen(float const* values, int threads) {
  openblas_set_num_threads(threads);
  Eigen::BDCSVD<matrix> const svd{dense(values), Eigen::ComputeThinU | Eigen::ComputeThinV};
  finish(svd.matrixU(), svd.matrixV().transpose(), svd.singularValues().data(), std::min(rows_, cols_));
}

}  // namespace bench
