// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/host/lanes.hpp>
#include <sara/backend/host/recycling_allocator.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/dtype.hpp>

namespace sara::detail {

// A tile of a product stays in registers: half of them are its sums, two to a row.
inline constexpr auto tile_rows = static_cast<std::int64_t>(register_count / 4);
template <Real R>
inline constexpr auto tile_lanes = static_cast<std::int64_t>(lane_count<R>);
template <Real R>
inline constexpr std::int64_t tile_cols = 2 * tile_lanes<R>;
/// Rows and columns of a block of symmetric matrices, and the depth of one update: a multiple of every tile.
inline constexpr std::int64_t symmetric_block = 64;
static_assert(symmetric_block % tile_rows == 0 && symmetric_block % tile_cols<float> == 0 &&
              symmetric_block % tile_cols<double> == 0);

template <Real R>
using recycled_vector = std::vector<R, recycling_allocator<R>>;

template <Real R>
using symmetric_block_matrix = Eigen::Matrix<R, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A symmetric matrix [n, n], of which entries (i, j) with j <= i count; padded with zeros to whole blocks.
template <Real R>
class symmetric_matrix {
 public:
  using map = Eigen::Map<symmetric_block_matrix<R>, Eigen::AlignedMax>;
  using const_map = Eigen::Map<symmetric_block_matrix<R> const, Eigen::AlignedMax>;

  explicit symmetric_matrix(std::int64_t n)
      : n_{n}, blocks_{ceil_div(n, symmetric_block)}, data_(static_cast<std::size_t>(pitch() * pitch())) {}

  [[nodiscard]] std::int64_t size() const noexcept { return n_; }
  [[nodiscard]] std::int64_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] std::int64_t pitch() const noexcept { return blocks_ * symmetric_block; }
  [[nodiscard]] R* row(std::int64_t i) noexcept { return data_.data() + i * pitch(); }
  [[nodiscard]] R const* row(std::int64_t i) const noexcept { return data_.data() + i * pitch(); }
  [[nodiscard]] auto block(std::int64_t i, std::int64_t j) {
    return map{data_.data(), pitch(), pitch()}.block(i * symmetric_block, j * symmetric_block, symmetric_block,
                                                     symmetric_block);
  }
  [[nodiscard]] auto block(std::int64_t i, std::int64_t j) const {
    return const_map{data_.data(), pitch(), pitch()}.block(i * symmetric_block, j * symmetric_block, symmetric_block,
                                                           symmetric_block);
  }

  /// Copies the lower half to the upper one, for reading whole rows.
  void mirror() {
    for (std::int64_t i = 0; i < blocks_; ++i) {
      for (std::int64_t j = 0; j < i; ++j) block(j, i) = block(i, j).transpose();
      block(i, i).template triangularView<Eigen::StrictlyUpper>() = block(i, i).transpose();
    }
  }

 private:
  std::int64_t n_;
  std::int64_t blocks_;
  recycled_vector<R> data_;
};

/// f(i) for all rows of blocks, one task each.
template <class F>
void each_block_row(thread_pool& pool, std::int64_t blocks, F&& f) {
  pool.parallel_for(blocks, [&](std::int64_t task) { f(blocks - 1 - task); });  // the longest of a lower half first
}

/// Column blocks as tiles want them: `depth` runs of Tile entries for every tile.
template <std::int64_t Tile, class Block, Real R>
void pack_tiles(Block const& block, R* to) {
  for (std::int64_t i = 0; i < symmetric_block; i += Tile)
    Eigen::Map<Eigen::Matrix<R, Tile, symmetric_block, Eigen::ColMajor>>{to + i* symmetric_block} =
        block.template middleRows<Tile>(i);
}

/// c [tile_rows, tile_cols] += alpha · a bᵀ, of packed tiles.
template <Real R>
void add_tile_product(R const* a, R const* b, R alpha, R* c, std::int64_t pitch) {
  lanes<R> sums[tile_rows][2] = {};
  for (std::int64_t k = 0; k < symmetric_block; ++k, a += tile_rows, b += tile_cols<R>) {
    lanes<R> left, right;
    load<R>(left, b);
    load<R>(right, b + tile_lanes<R>);
    keep_in_register<R>(left);
    keep_in_register<R>(right);
    SARA_UNROLL
    for (std::int64_t i = 0; i < tile_rows; ++i) {
      sums[i][0] += a[i] * left;
      sums[i][1] += a[i] * right;
    }
  }
  SARA_UNROLL
  for (std::int64_t i = 0; i < tile_rows; ++i) {
    SARA_UNROLL
    for (std::int64_t half = 0; half < 2; ++half) {
      R* const to = c + i * pitch + half * tile_lanes<R>;
      lanes<R> sum;
      load<R>(sum, to);
      sum += alpha * sums[i][half];
      store<R>(sum, to);
    }
  }
}

/// A block of c += alpha · a bᵀ, of packed blocks.
template <Real R>
void add_block_product(R const* a, R const* b, R alpha, R* c, std::int64_t pitch) {
  for (std::int64_t j = 0; j < symmetric_block; j += tile_cols<R>)
    for (std::int64_t i = 0; i < symmetric_block; i += tile_rows)
      add_tile_product(a + i * symmetric_block, b + j * symmetric_block, alpha, c + i * pitch + j, pitch);
}

/// A column of blocks, packed as left and as right factors of tiles.
template <Real R>
class packed_column {
 public:
  explicit packed_column(std::int64_t blocks)
      : left_(static_cast<std::size_t>(blocks * area_)), right_(static_cast<std::size_t>(blocks * area_)) {}

  template <class Block>
  void set_left(std::int64_t i, Block const& block) {
    pack_tiles<tile_rows>(block, left_.data() + i * area_);
  }
  template <class Block>
  void set_right(std::int64_t i, Block const& block) {
    pack_tiles<tile_cols<R>>(block, right_.data() + i * area_);
  }
  /// c [64, 64] += left_i rightᵀ, of the only right factor of another column.
  void add_product(std::int64_t i, packed_column const& right, R* c) const {
    add_block_product(left_.data() + i * area_, right.right_.data(), R{1}, c, symmetric_block);
  }
  /// Blocks (i, j) of c += alpha · left_i right_jᵀ, for j in [first, last).
  void add_products(std::int64_t i, std::int64_t first, std::int64_t last, R alpha, symmetric_matrix<R>& c) const {
    for (auto j = first; j < last; ++j)
      add_block_product(left_.data() + i * area_, right_.data() + j * area_, alpha, c.block(i, j).data(), c.pitch());
  }

 private:
  static constexpr std::int64_t area_ = symmetric_block * symmetric_block;
  recycled_vector<R> left_, right_;
};

/// a², of a symmetric a: n³ flops. Extra memory: the result, and two panels [n, 64].
template <Real R>
[[nodiscard]] symmetric_matrix<R> square(thread_pool& pool, symmetric_matrix<R> const& a) {
  symmetric_matrix<R> out{a.size()};
  auto const n = a.blocks();
  packed_column<R> column{n};
  for (std::int64_t k = 0; k < n; ++k) {
    each_block_row(pool, n, [&](std::int64_t i) {
      symmetric_block_matrix<R> block;
      if (i > k)
        block = a.block(i, k);
      else if (i < k)
        block = a.block(k, i).transpose();
      else
        block = a.block(k, k).template selfadjointView<Eigen::Lower>();
      column.set_left(i, block);
      column.set_right(i, block);
    });
    each_block_row(pool, n, [&](std::int64_t i) { column.add_products(i, 0, i + 1, R{1}, out); });
  }
  return out;
}

/// The inverse of a symmetric positive definite matrix by block Gauss-Jordan sweeps, n³ flops; nothing where a pivot is
/// not positive definite.
///
/// Sweep k replaces the block column B of the pivot D by Q = B D⁻¹, every other block A_ij by A_ij - B_i Q_jᵀ, and D by
/// -D⁻¹; after all of them the matrix is the negative inverse. What lies below and right of the pivot is the Schur
/// complement of a Cholesky factorisation and keeps the precision S of `a`; what lies left of it is part of the result,
/// of precision R. A float inverse of a double matrix of condition κ so has an error of about ε √κ, not ε κ, and two
/// thirds of its flops are in float.
/// Extra memory: the result, and four panels [n, 64].
template <Real R, Real S>
[[nodiscard]] std::optional<symmetric_matrix<R>> inverse(thread_pool& pool, symmetric_matrix<S> a) {
  using block_matrix = symmetric_block_matrix<S>;
  auto const n = a.blocks();
  symmetric_matrix<R> out{a.size()};
  packed_column<S> schur{n};
  packed_column<R> result{n};
  packed_column<S> schur_pivot{1};
  packed_column<R> result_pivot{1};
  for (auto i = a.size(); i < a.pitch(); ++i) a.row(i)[i] = 1;  // padding: a unit matrix is its own inverse

  for (std::int64_t k = 0; k < n; ++k) {
    Eigen::LLT<block_matrix> const factored{a.block(k, k)};
    if (factored.info() != Eigen::Success) return std::nullopt;
    block_matrix const pivot = factored.solve(block_matrix::Identity(symmetric_block, symmetric_block));
    schur_pivot.set_right(0, pivot);
    result_pivot.set_right(0, pivot.template cast<R>());

    each_block_row(pool, n, [&](std::int64_t i) {
      if (i > k) {
        block_matrix quotient = block_matrix::Zero(symmetric_block, symmetric_block);
        schur.set_left(i, a.block(i, k));
        schur.add_product(i, schur_pivot, quotient.data());
        schur.set_right(i, quotient);
        result.set_left(i, a.block(i, k).template cast<R>());
        out.block(i, k) = quotient.template cast<R>();
      } else if (i < k) {
        symmetric_block_matrix<R> quotient = symmetric_block_matrix<R>::Zero(symmetric_block, symmetric_block);
        result.set_left(i, out.block(k, i).transpose());
        result.add_product(i, result_pivot, quotient.data());
        result.set_right(i, quotient);
        out.block(k, i) = quotient.transpose();
      }
    });
    each_block_row(pool, n, [&](std::int64_t i) {
      if (i == k) return;
      if (i > k) schur.add_products(i, k + 1, i + 1, S{-1}, a);
      result.add_products(i, 0, std::min(k, i + 1), R{-1}, out);
    });
    out.block(k, k) = -pivot.template cast<R>();
  }
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) out.block(i, j) *= R{-1};
  return out;
}

}  // namespace sara::detail
