// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/positions.hpp>
#include <sara/error.hpp>

namespace sara {

namespace detail {

/// The low 16 bits of every column, [count], where positions have them at hand, else null.
template <Positions P>
[[nodiscard]] std::uint16_t const* low_columns(P positions) {
  if constexpr (requires { positions.low_columns(); })
    return positions.low_columns();
  else
    return nullptr;
}

}  // namespace detail

/// The positions of one matrix in the order in which the host takes sampled products at them.
///
/// The matrix is cut into parts, bands of rows crossed with bands of columns, one for each thread: a part packs what it
/// multiplies, so that threads share nothing but dY and X. In a part, columns are cut into blocks, narrow enough that a
/// block's part of X stays in the first-level cache while all rows pass over it. Within a block the entries of one row
/// make chunks of at most 16, computed together with the row's dY in registers; chunks of equal length follow each
/// other, so that no branch depends on the pattern. An entry's product does not depend on its neighbours in any of
/// these: any number of threads gives the same bits.
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

  /// Pieces [first, last).
  struct piece_range {
    std::int64_t first, last;
  };

  /// All entries of a part in columns [first_column, last_column).
  struct block_of_columns {
    std::int64_t first_column, last_column;
    piece_range pieces;
  };

  /// All entries in rows [first_row, last_row) and columns [first_column, last_column): blocks [first_block,
  /// last_block), one after the other.
  struct part {
    std::int64_t first_row, last_row;
    std::int64_t first_column, last_column;
    std::int64_t first_block, last_block;
    [[nodiscard]] std::int64_t rows() const noexcept { return last_row - first_row; }
    [[nodiscard]] std::int64_t columns() const noexcept { return last_column - first_column; }
  };

  host_sampling_plan() = default;

  /// @param threads  that will share the work: the largest number of parts
  /// Complexity: O(count + rows), in the calling thread.
  /// @throws shape_error  for a matrix of 2^26 rows or more, or 2^37 positions or more
  template <Positions P>
  explicit host_sampling_plan(P positions, int threads = 1) : count_{positions.count()}, shape_{positions.shape()} {
    detail::require<shape_error>(shape_.rows < std::int64_t{1} << chunk::row_bits, "sampled product: expected at most ",
                                 (std::int64_t{1} << chunk::row_bits) - 1, " rows, got ", shape_.rows);
    detail::require<shape_error>(count_ < std::int64_t{1} << (63 - chunk::row_bits),
                                 "sampled product: expected fewer than 2^37 positions, got ", count_);
    if (count_ == 0) return;
    if (detail::low_columns(positions) == nullptr) columns_.resize(static_cast<std::size_t>(count_));
    auto const where = cut_matrix(positions, threads);

    // Chunks by band of rows, by block, and by descending length in it: a counting sort.
    std::vector<std::int64_t> next(static_cast<std::size_t>(where.row_bands() * where.blocks() * longest_chunk) + 1);
    auto const kind = [&](std::int64_t band, std::int64_t block, std::int64_t length) {
      return static_cast<std::size_t>((band * where.blocks() + block) * longest_chunk + longest_chunk - length);
    };
    each_chunk(positions, where,
               [&](std::int64_t band, std::int64_t block, std::int64_t, std::int64_t, std::int64_t length) {
                 ++next[kind(band, block, length) + 1];
               });
    std::partial_sum(next.begin(), next.end(), next.begin());
    chunks_.resize(static_cast<std::size_t>(next.back()));
    add_parts(next, where);
    each_chunk(positions, where,
               [&](std::int64_t band, std::int64_t block, std::int64_t row, std::int64_t slot, std::int64_t length) {
                 chunks_[static_cast<std::size_t>(next[kind(band, block, length)]++)] = {slot, row};
               });
  }

  [[nodiscard]] std::span<chunk const> chunks() const noexcept { return chunks_; }
  /// Work that shares no slot, of about equal size; none without entries.
  [[nodiscard]] std::span<part const> parts() const noexcept { return parts_; }
  /// The blocks of a part that have entries, in ascending order.
  [[nodiscard]] std::span<block_of_columns const> blocks(part const& p) const {
    return std::span{blocks_}.subspan(static_cast<std::size_t>(p.first_block),
                                      static_cast<std::size_t>(p.last_block - p.first_block));
  }
  /// All pieces of a part.
  [[nodiscard]] piece_range pieces(part const& p) const {
    return {blocks(p).front().pieces.first, blocks(p).back().pieces.last};
  }
  /// The runs of piece i, so few that what they add to stays in the first-level cache.
  [[nodiscard]] std::span<run const> piece(std::int64_t i) const {
    auto const at = static_cast<std::size_t>(i);
    return std::span{runs_}.subspan(pieces_[at], pieces_[at + 1] - pieces_[at]);
  }

  /// The low 16 bits of every column, [count]: those of the positions that the plan was made of, or its own.
  /// @throws shape_error  for positions of another number or shape; others cannot be told from the plan's
  template <Positions P>
  [[nodiscard]] std::uint16_t const* columns(P positions) const {
    auto const shape = positions.shape();
    auto const* const at_hand = detail::low_columns(positions);
    bool const has_columns = at_hand != nullptr || std::ssize(columns_) == count_;
    detail::require<shape_error>(
        positions.count() == count_ && shape.rows == shape_.rows && shape.cols == shape_.cols && has_columns,
        "sampled product: expected the plan of these ", positions.count(), " positions in ", shape.rows, " x ",
        shape.cols, ", got one of ", count_, " in ", shape_.rows, " x ", shape_.cols);
    return at_hand != nullptr ? at_hand : columns_.data();
  }

  [[nodiscard]] std::int64_t bytes() const noexcept {
    return static_cast<std::int64_t>(chunks_.size() * sizeof(chunk) + runs_.size() * sizeof(run) +
                                     parts_.size() * sizeof(part) + blocks_.size() * sizeof(block_of_columns) +
                                     pieces_.size() * sizeof(std::size_t) + columns_.size() * sizeof(std::uint16_t));
  }

 private:
  static constexpr std::int64_t chunks_of_run = 256;
  static constexpr std::int64_t slots_of_piece = 4096;

  /// Where the matrix is cut: rows into bands, columns into blocks, and these joined to bands.
  struct cuts {
    std::vector<std::int64_t> row;         ///< the first of each band, and the number of rows
    std::vector<std::int64_t> column;      ///< the first of each block, and the number of columns
    std::vector<std::size_t> first_block;  ///< of each band of columns, and the number of blocks
    [[nodiscard]] std::int64_t row_bands() const { return std::ssize(row) - 1; }
    [[nodiscard]] std::int64_t blocks() const { return std::ssize(column) - 1; }
  };

  struct grid {
    std::int64_t rows, columns;  ///< bands
  };

  /// The grid of parts with the least work a part: its entries, and packing the strips of its rows and columns. Fewer
  /// parts than threads where these would wait for each other longer than they work.
  [[nodiscard]] grid choose_grid(int threads) const {
    constexpr std::int64_t slots_of_strip = 8;    // entries that take as long as packing a strip
    constexpr std::int64_t slots_of_part = 2048;  // entries that are worth waking a thread for
    auto const work = [&](grid const& g) {
      return count_ / (g.rows * g.columns) + slots_of_strip * (shape_.rows / g.rows + shape_.cols / g.columns);
    };
    auto const parts = std::clamp<std::int64_t>(work({1, 1}) / slots_of_part, 1, threads);
    grid best{1, 1};
    for (std::int64_t columns = 1; columns <= std::min(parts, shape_.cols); ++columns) {
      grid const g{std::min(parts / columns, shape_.rows), columns};
      if (work(g) < work(best)) best = g;
    }
    return best;
  }

  /// Columns in which a row has so many entries on average that seldom one has more than a chunk: at least 32.
  [[nodiscard]] std::int64_t block_width() const {
    constexpr std::int64_t entries_of_row = 13;
    return std::clamp<std::int64_t>(entries_of_row * shape_.size() / count_, 32, 1 << 16);
  }

  /// Bands of rows have about equally many entries. Blocks end with their band, and where a column's upper bits change.
  template <Positions P>
  [[nodiscard]] cuts cut_matrix(P positions, int threads) const {
    auto const [row_bands, column_bands] = choose_grid(threads);
    cuts out{{0}, {0}, {0}};
    for (std::int64_t band = 1; band < row_bands; ++band)
      out.row.push_back(positions.position(count_ * band / row_bands) / shape_.cols);
    out.row.push_back(shape_.rows);
    auto const width = block_width();
    for (std::int64_t band = 1; band <= column_bands; ++band) {
      auto const end = shape_.cols * band / column_bands;
      while (out.column.back() < end) {
        auto const first = out.column.back();
        out.column.push_back(std::min({first + width, end, (first | 0xffff) + 1}));
      }
      out.first_block.push_back(static_cast<std::size_t>(out.blocks()));
    }
    return out;
  }

  /// f(band of rows, block, row, first slot, length) for every chunk, row by row; notes the columns too.
  template <Positions P, class F>
  void each_chunk(P positions, cuts const& where, F&& f) {
    std::int64_t last = 0;
    std::int64_t band = 0;
    for (std::int64_t row = 0; row < shape_.rows; ++row) {
      while (row >= where.row[static_cast<std::size_t>(band) + 1]) ++band;
      auto const first = last;
      last = positions.lower_bound((row + 1) * shape_.cols);
      std::int64_t start = first;  // of the entries in the current block
      std::int64_t block = 0;
      auto const end_block = [&](std::int64_t end) {
        for (auto left = detail::ceil_div(end - start, longest_chunk); left > 0; --left) {
          auto const length = detail::ceil_div(end - start, left);
          f(band, block, row, start, length);
          start += length;
        }
      };
      positions.for_each(first, last, [&](std::int64_t slot, std::int64_t position) {
        auto const column = position - row * shape_.cols;
        if (!columns_.empty()) columns_[static_cast<std::size_t>(slot)] = static_cast<std::uint16_t>(column & 0xffff);
        if (column < where.column[static_cast<std::size_t>(block) + 1]) return;
        end_block(slot);
        while (column >= where.column[static_cast<std::size_t>(block) + 1]) ++block;
      });
      end_block(last);
    }
  }

  /// @param bounds  where each kind of chunk begins, and the last one ends
  void add_parts(std::vector<std::int64_t> const& bounds, cuts const& where) {
    std::size_t kind = 0;
    for (std::size_t rows = 0; rows + 1 < where.row.size(); ++rows)
      for (std::size_t columns = 0; columns + 1 < where.first_block.size(); ++columns) {
        auto const first_block = where.first_block[columns], last_block = where.first_block[columns + 1];
        auto const first = std::ssize(blocks_);
        for (auto block = first_block; block < last_block; ++block) {
          auto const first_piece = std::ssize(pieces_);
          auto slots = slots_of_piece;  // of the last piece: a block begins one
          for (auto length = longest_chunk; length > 0; --length, ++kind)
            add_runs(bounds[kind], bounds[kind + 1], length, where.column[block] & ~std::int64_t{0xffff}, slots);
          if (std::ssize(pieces_) > first_piece)
            blocks_.push_back({where.column[block], where.column[block + 1], {first_piece, std::ssize(pieces_)}});
        }
        if (std::ssize(blocks_) > first)
          parts_.push_back({where.row[rows], where.row[rows + 1], where.column[first_block], where.column[last_block],
                            first, std::ssize(blocks_)});
      }
    pieces_.push_back(runs_.size());
  }

  /// Chunks [first, last) as runs, which begin a new piece where the last one has enough slots.
  void add_runs(std::int64_t first, std::int64_t last, std::int64_t length, std::int64_t column, std::int64_t& slots) {
    for (; first < last; first += chunks_of_run) {
      if (slots >= slots_of_piece) {
        pieces_.push_back(runs_.size());
        slots = 0;
      }
      auto const count = std::min(chunks_of_run, last - first);
      runs_.push_back({first, count, length, column});
      slots += count * length;
    }
  }

  std::int64_t count_ = 0;
  matrix_shape shape_{};
  std::vector<chunk> chunks_;
  std::vector<run> runs_;
  std::vector<part> parts_;
  std::vector<block_of_columns> blocks_;
  std::vector<std::size_t> pieces_;     // first run of each, and the number of runs
  std::vector<std::uint16_t> columns_;  // empty where the positions have them
};

}  // namespace sara
