// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <sara/backend/positions.hpp>
#include <sara/error.hpp>

namespace sara {

namespace detail {

/// Positions that already hold the low 16 bits of every column, [count].
template <class P>
concept ColumnPositions = Positions<P> && requires(P const p) {
  { p.columns } -> std::convertible_to<std::uint16_t const*>;
};

}  // namespace detail

/// The positions of one matrix in the order in which the host takes sampled products at them.
///
/// Columns are cut into blocks, narrow enough that a block's part of X stays in the first-level cache while all rows
/// pass over it. Within a block the entries of one row make chunks of at most 16, computed together with the row's dY
/// in registers; chunks of equal length follow each other, so that no branch depends on the pattern. What is in a
/// chunk or a task depends on the positions alone: any number of threads gives the same bits.
class host_sampling_plan {
 public:
  static constexpr std::int64_t longest_chunk = 16;

  /// Consecutive slots of one row.
  class chunk {
   public:
    chunk() = default;
    chunk(std::int64_t slot, std::int64_t row) : bits_{static_cast<std::uint64_t>(slot << row_bits | row)} {}
    [[nodiscard]] std::int64_t slot() const noexcept { return static_cast<std::int64_t>(bits_ >> row_bits); }
    [[nodiscard]] std::int64_t row() const noexcept {
      return static_cast<std::int64_t>(bits_ & ((std::uint64_t{1} << row_bits) - 1));
    }
    static constexpr int row_bits = 26;

   private:
    std::uint64_t bits_ = 0;
  };

  /// Chunks [first, first + count) of one block that are of one length.
  struct run {
    std::int64_t first, count, length;
    std::int64_t column;  ///< what the 16-bit columns of its slots add to, a multiple of 65,536
  };

  host_sampling_plan() = default;

  /// Complexity: O(count + rows), in the calling thread.
  /// @throws shape_error  for a matrix of 2^26 rows or more, or 2^38 positions or more
  template <Positions P>
  explicit host_sampling_plan(P positions) {
    auto const shape = positions.shape();
    detail::require<shape_error>(shape.rows < std::int64_t{1} << chunk::row_bits, "sampled product: expected at most ",
                                 (std::int64_t{1} << chunk::row_bits) - 1, " rows, got ", shape.rows);
    detail::require<shape_error>(positions.count() < std::int64_t{1} << (63 - chunk::row_bits),
                                 "sampled product: expected at most 2^37 positions, got ", positions.count());
    if (positions.count() == 0) return;
    if constexpr (!detail::ColumnPositions<P>) columns_.resize(static_cast<std::size_t>(positions.count()));
    auto const width_bits =
        static_cast<int>(std::bit_width(static_cast<std::uint64_t>(block_width(positions.count(), shape.size())))) - 1;
    auto const blocks = ((shape.cols - 1) >> width_bits) + 1;

    // Chunks by block, and by descending length in it: a counting sort.
    std::vector<std::int64_t> next(static_cast<std::size_t>(blocks * longest_chunk) + 1);
    auto const kind = [](std::int64_t block, std::int64_t length) {
      return static_cast<std::size_t>(block * longest_chunk + longest_chunk - length);
    };
    each_chunk(positions, width_bits, [&](std::int64_t block, std::int64_t, std::int64_t, std::int64_t length) {
      ++next[kind(block, length) + 1];
    });
    std::partial_sum(next.begin(), next.end(), next.begin());
    chunks_.resize(static_cast<std::size_t>(next.back()));
    add_runs(next, width_bits);
    each_chunk(positions, width_bits,
               [&](std::int64_t block, std::int64_t row, std::int64_t slot, std::int64_t length) {
                 chunks_[static_cast<std::size_t>(next[kind(block, length)]++)] = {slot, row};
               });
  }

  [[nodiscard]] std::span<chunk const> chunks() const noexcept { return chunks_; }
  /// Pieces of work that share no slot, of about equal size: the runs of task i.
  [[nodiscard]] std::span<run const> task(std::int64_t i) const {
    auto const at = static_cast<std::size_t>(i);
    return std::span{runs_}.subspan(tasks_[at], tasks_[at + 1] - tasks_[at]);
  }
  [[nodiscard]] std::int64_t tasks() const noexcept { return std::max<std::int64_t>(0, std::ssize(tasks_) - 1); }

  /// The low 16 bits of every column, [count]: those of the positions that the plan was made of, or its own.
  template <Positions P>
  [[nodiscard]] std::uint16_t const* columns(P positions) const {
    if constexpr (detail::ColumnPositions<P>)
      return positions.columns;
    else
      return columns_.data();
  }

  [[nodiscard]] std::int64_t bytes() const noexcept {
    return static_cast<std::int64_t>(chunks_.size() * sizeof(chunk) + runs_.size() * sizeof(run) +
                                     tasks_.size() * sizeof(std::size_t) + columns_.size() * sizeof(std::uint16_t));
  }

 private:
  static constexpr std::int64_t chunks_of_run = 256;
  static constexpr std::int64_t slots_of_task = 4096;

  /// The power of two for which a row has about one full chunk in a block.
  [[nodiscard]] static std::int64_t block_width(std::int64_t count, std::int64_t size) {
    auto const width =
        std::bit_floor(static_cast<std::uint64_t>(longest_chunk * std::max<std::int64_t>(1, size / count)));
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(width), 32, 1 << 16);
  }

  /// f(block, row, first slot, length) for every chunk, row by row; notes the columns too.
  template <Positions P, class F>
  void each_chunk(P positions, int width_bits, F&& f) {
    auto const shape = positions.shape();
    std::int64_t last = 0;
    for (std::int64_t row = 0; row < shape.rows; ++row) {
      auto const first = last;
      last = positions.lower_bound((row + 1) * shape.cols);
      std::int64_t start = first;  // of the entries in the current block
      std::int64_t block = 0;
      auto const end_block = [&](std::int64_t end) {
        auto const parts = (end - start + longest_chunk - 1) / longest_chunk;
        for (auto part = parts; part > 0; --part) {
          auto const length = (end - start + part - 1) / part;
          f(block, row, start, length);
          start += length;
        }
      };
      positions.for_each(first, last, [&](std::int64_t slot, std::int64_t position) {
        auto const column = position - row * shape.cols;
        if constexpr (!detail::ColumnPositions<P>)
          columns_[static_cast<std::size_t>(slot)] = static_cast<std::uint16_t>(column & 0xffff);
        if (column >> width_bits == block) return;
        end_block(slot);
        block = column >> width_bits;
      });
      end_block(last);
    }
  }

  /// @param bounds  where each kind of chunk begins
  void add_runs(std::vector<std::int64_t> const& bounds, int width_bits) {
    std::int64_t slots = slots_of_task;
    for (std::size_t k = 0; k + 1 < bounds.size(); ++k) {
      auto const block = static_cast<std::int64_t>(k) / longest_chunk;
      auto const length = longest_chunk - static_cast<std::int64_t>(k) % longest_chunk;
      for (auto first = bounds[k]; first < bounds[k + 1]; first += chunks_of_run) {
        if (slots >= slots_of_task) {
          tasks_.push_back(runs_.size());
          slots = 0;
        }
        auto const count = std::min(chunks_of_run, bounds[k + 1] - first);
        runs_.push_back({first, count, length, block << width_bits & ~std::int64_t{0xffff}});
        slots += count * length;
      }
    }
    tasks_.push_back(runs_.size());
  }

  std::vector<chunk> chunks_;
  std::vector<run> runs_;
  std::vector<std::size_t> tasks_;      // first run of each, and the number of runs
  std::vector<std::uint16_t> columns_;  // empty where the positions have them
};

}  // namespace sara
