// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sara/backend/first_at_least.hpp>
#include <sara/store/concept.hpp>

namespace sara {

/// Row offsets and 16-bit columns: 2 bytes a position and 8 a row. Rows longer than 65,536 are cut into segments of
/// that length, each with its own offset; the elements of a single column, a flat tensor, are one long row to it.
/// lower_bound: O(log of the row's nnz); position: O(log rows).
template <class Backend>
class row_index {
 public:
  static constexpr std::int64_t longest_segment = std::int64_t{1} << 16;

  struct ref_type {
    std::int64_t const* offsets = nullptr;  // [segments + 1], the first slot of each segment
    std::uint16_t const* columns = nullptr;
    std::int64_t width = 1;  // of the rows that are cut
    std::int64_t segments_per_row = 1;
    std::int64_t n = 0;
    matrix_shape matrix;

    [[nodiscard]] SARA_HOST_DEVICE std::int64_t segments() const {
      return (matrix.size() + width - 1) / width * segments_per_row;
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t count() const { return n; }
    [[nodiscard]] SARA_HOST_DEVICE matrix_shape shape() const { return matrix; }

    /// Position of the segment's first element.
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t origin(std::int64_t segment) const {
      return segment / segments_per_row * width + segment % segments_per_row * longest_segment;
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t segment_of_slot(std::int64_t slot) const {
      return detail::first_at_least(segments(), slot + 1, [this](std::int64_t s) { return offsets[s + 1]; });
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t position(std::int64_t slot) const {
      return origin(segment_of_slot(slot)) + columns[slot];
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t lower_bound(std::int64_t p) const {
      if (p >= matrix.size()) return count();
      auto const segment = p / width * segments_per_row + p % width / longest_segment;
      auto const first = offsets[segment];
      return first + detail::first_at_least(offsets[segment + 1] - first, p - origin(segment), [&](std::int64_t i) {
               return static_cast<std::int64_t>(columns[first + i]);
             });
    }
    /// The low 16 bits of each slot's column, [count]; null where the matrix is one column.
    [[nodiscard]] std::uint16_t const* low_columns() const { return matrix.cols == 1 ? nullptr : columns; }
    template <class F>
    SARA_HOST_DEVICE void for_each(std::int64_t first, std::int64_t last, F&& f) const {
      if (first >= last) return;
      for (auto segment = segment_of_slot(first); first < last; ++segment) {
        auto const end = offsets[segment + 1] < last ? offsets[segment + 1] : last;
        auto const base = origin(segment);
        for (; first < end; ++first) f(first, base + columns[first]);
      }
    }
  };

  row_index(Backend const& backend, matrix_shape shape, std::int64_t const* positions, std::int64_t count)
      : shape_{shape},
        width_{shape.cols > 1 ? shape.cols : longest_segment},
        segments_per_row_{(width_ + longest_segment - 1) / longest_segment} {
    auto const segments = ref().segments();
    offsets_ = backend.template allocate<std::int64_t>(segments + 1);
    columns_ = backend.template allocate<std::uint16_t>(count);
    for_each(backend, all_positions{segments + 1}, segment_offsets{ref(), positions, count, offsets_.data()});
    for_each(backend, all_positions{count}, columns_of{width_, positions, columns_.data()});
  }

  [[nodiscard]] ref_type ref() const {
    return {offsets_.data(), columns_.data(), width_, segments_per_row_, count(), shape_};
  }
  [[nodiscard]] std::int64_t count() const noexcept { return static_cast<std::int64_t>(columns_.size()); }
  [[nodiscard]] std::int64_t bytes() const noexcept {
    return static_cast<std::int64_t>(offsets_.size() * sizeof(std::int64_t) + columns_.size() * sizeof(std::uint16_t));
  }

  // How it is built; public, as nvcc takes no private type in a kernel's arguments.
  struct segment_offsets {
    ref_type ref;
    std::int64_t const* positions;
    std::int64_t count;
    std::int64_t* to;
    SARA_HOST_DEVICE void operator()(std::int64_t segment, std::int64_t) const {
      auto const origin = segment == ref.segments() ? ref.matrix.size() : ref.origin(segment);
      to[segment] = detail::first_at_least(count, origin, [this](std::int64_t i) { return positions[i]; });
    }
  };
  struct columns_of {
    std::int64_t width;
    std::int64_t const* positions;
    std::uint16_t* to;
    SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const {
      to[i] = static_cast<std::uint16_t>(positions[i] % width % longest_segment);
    }
  };

 private:
  matrix_shape shape_;
  std::int64_t width_ = 1;
  std::int64_t segments_per_row_ = 1;
  typename Backend::template buffer<std::int64_t> offsets_;
  typename Backend::template buffer<std::uint16_t> columns_;
};

}  // namespace sara
