// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <thrust/execution_policy.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <thrust/scan.h>
#include <thrust/sort.h>
#include <thrust/transform_reduce.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/SVD>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <sara/backend/positions.hpp>
#include <sara/cuda/device.cuh>
#include <sara/cuda/job_table.cuh>
#include <sara/cuda/kernels.cuh>
#include <sara/cuda/lanes.cuh>
#include <sara/cuda/matrix.hpp>

namespace sara::test {

/// What stream_executor asks of a GPU, by Thrust's host system, loops and Eigen: the algorithms of sara/cuda run over
/// it where there is no GPU. Scratch memory is filled with ones, so that nobody reads what was not written.
class loop_executor {
  template <class T>
  using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

 public:
  static constexpr memory where = memory::host;
  template <class T>
  using buffer = std::vector<T>;

  /// @param dense_density  from which density on products are dense
  explicit loop_executor(double dense_density) : dense_density_{dense_density} {}

  [[nodiscard]] double dense_density(dtype) const { return dense_density_; }
  [[nodiscard]] bool tf32() const { return false; }
  struct nowhere {
    ~nowhere() {}  // so that it is not unused
  };
  [[nodiscard]] nowhere enter() const { return {}; }

  template <class T>
  [[nodiscard]] buffer<T> scratch(std::int64_t n) const {
    buffer<T> out(static_cast<std::size_t>(n));
    if (n > 0) std::memset(static_cast<void*>(out.data()), 0xff, out.size() * sizeof(T));
    return out;
  }
  void set_zero(void* to, std::size_t bytes) const {
    if (bytes > 0) std::memset(to, 0, bytes);
  }
  void upload(void const* from, void* to, std::size_t bytes) const { download(from, to, bytes); }
  void download(void const* from, void* to, std::size_t bytes) const {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void synchronize() const {}

  template <class F>
  void call_each(std::int64_t n, F const& f) const {
    for (std::int64_t i = 0; i < n; ++i) f(i);
  }
  template <class F>
  void call_each_by_lanes(std::int64_t n, F const& f) const {
    for (std::int64_t i = 0; i < n; ++i) f(i, cuda::detail::one_lane{});
  }
  template <class Job>
  void visit(std::span<Job const> jobs) const {
    each_slot(jobs, [](Job const& job, std::int64_t slot) { job.f(slot, job.positions.position(slot)); });
  }
  template <class Job, class Sum>
  void sum(std::span<Job const> jobs, Sum* sum) const {
    each_slot(jobs, [&](Job const& job, std::int64_t slot) { *sum += job.f(slot, job.positions.position(slot)); });
  }

  template <class F>
  void exclusive_sum(std::int64_t n, F const& f, std::int64_t* to) const {
    auto const values = thrust::make_transform_iterator(thrust::counting_iterator<std::int64_t>{0}, f);
    thrust::exclusive_scan(thrust::host, values, values + n, to, std::int64_t{0});
  }
  void sort(buffer<std::uint64_t>& keys, std::int64_t n) const {
    thrust::sort(thrust::host, keys.begin(), keys.begin() + n);
  }
  void sort(buffer<std::int64_t>& keys, buffer<std::int64_t>& values, std::int64_t n) const {
    thrust::stable_sort_by_key(thrust::host, keys.begin(), keys.begin() + n, values.begin());
  }
  template <class F>
  void count(std::int64_t n, F const& f, std::uint64_t* bins) const {
    for (std::int64_t i = 0; i < n; ++i)
      if (auto const bin = f(i); bin < cuda::detail::most_bins) ++bins[bin];
  }

  template <Scalar From, Scalar T>
  void transpose(From const* from, std::int64_t row_stride, std::int64_t rows, std::int64_t cols, T* to,
                 std::int64_t pitch) const {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < cols; ++c) to[c * pitch + r] = narrow<T>(widen(from[r * row_stride + c]));
  }

  template <Real C>
  void multiply(cuda::detail::product_shape const& s, cuda::detail::operand const& a, cuda::detail::operand const& b,
                C keep, C* to, std::int64_t pitch) const {
    for (std::int64_t i = 0; i < s.count; ++i) {
      auto const left = matrix_of<C>(a, i, s.rows, s.inner);
      auto const right = matrix_of<C>(b, i, s.inner, s.cols);
      Eigen::Map<row_major<C>, 0, Eigen::OuterStride<>> out(to + i * s.rows * pitch, s.rows, s.cols,
                                                            Eigen::OuterStride<>{pitch});
      if (keep == 0)
        out = left * right;
      else
        out = left * right + keep * out;
    }
  }
  void solve(double* w, std::int64_t n, double* x, std::int64_t cols, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) {
      Eigen::Map<row_major<double>> const matrix(w + i * n * n, n, n);
      Eigen::Map<row_major<double>> right(x + i * n * cols, n, cols);
      right = matrix.llt().solve(right.eval()).eval();
    }
  }
  void decompose(double* a, std::int64_t rows, std::int64_t cols, double* sigma, double* v, double* u) const {
    Eigen::BDCSVD<Eigen::MatrixXd> const svd{Eigen::Map<row_major<double>>(a, rows, cols),
                                             Eigen::ComputeThinU | Eigen::ComputeThinV};
    Eigen::Map<Eigen::VectorXd>(sigma, rows) = svd.singularValues();
    Eigen::Map<row_major<double>>(v, rows, rows) = svd.matrixU();
    Eigen::Map<row_major<double>>(u, rows, cols) = svd.matrixV().transpose();
  }

 private:
  /// Block by block, as the kernels do.
  template <class Job, class F>
  static void each_slot(std::span<Job const> jobs, F&& f) {
    cuda::detail::in_tables(jobs, [&](auto const& table) {
      for (std::int64_t block = 0; block < table.blocks(); ++block) {
        auto const number = table.job_of_block(block);
        auto const& job = table.job(number);
        auto const first = (block - table.first_block[number]) * cuda::detail::slots_per_block;
        auto const last = std::min(job.positions.count(), first + cuda::detail::slots_per_block);
        for (auto slot = first; slot < last; ++slot) f(job, slot);
      }
    });
  }

  template <Real C>
  [[nodiscard]] static row_major<C> matrix_of(cuda::detail::operand const& o, std::int64_t number, std::int64_t rows,
                                              std::int64_t cols) {
    row_major<C> out(rows, cols);
    sara::visit(o.type, [&]<class T>() {
      auto const* const data = static_cast<T const*>(o.data) + number * o.stride;
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c)
          out(r, c) = static_cast<C>(widen(data[o.transposed ? c * o.pitch + r : r * o.pitch + c]));
    });
    return out;
  }

  double dense_density_;
};

using loop_device = cuda::basic_device<loop_executor>;

}  // namespace sara::test
