// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include <sara/backend/ceil_div.hpp>
#include <sara/backend/host/lanes.hpp>
#include <sara/backend/host/sampling_plan.hpp>
#include <sara/tensor/dtype.hpp>

/// Sampled products of strips. A strip is what one row or column of a weight is multiplied with, contiguous along the
/// reduction: a column of dY or X of a linear layer, a channel of a convolution moved by a tap.
namespace sara::detail {

/// Elements that a sampled product packs at a time, for dY and X together: 1 MiB in float32.
inline constexpr std::int64_t strip_budget = 1 << 18;

template <Real R>
inline constexpr std::int64_t vector_length = static_cast<std::int64_t>(lane_count<R>);

/// Vectors of a strip that are multiplied in one step: those of dY stay in registers beside the sums.
inline constexpr auto step_vectors = static_cast<std::int64_t>(register_count / 4);
template <Real R>
inline constexpr std::int64_t step_length = step_vectors* vector_length<R>;

/// A panel is what linear layers pack of a strip in one piece, some steps: their sums are added to the result once.
template <Real R>
inline constexpr std::int64_t panel_length = 512 / static_cast<std::int64_t>(sizeof(R));
static_assert(panel_length<float> % step_length<float> == 0 && panel_length<double> % step_length<double> == 0);

/// Memory of the calling thread that is reused from call to call, aligned to vectors, contents undefined.
/// @tparam Use  keeps apart what is needed at the same time
template <class Use, Real R>
[[nodiscard]] R* scratch(std::int64_t n) {
  struct release {
    void operator()(R* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  thread_local std::unique_ptr<R[], release> memory;
  thread_local std::int64_t size = 0;
  if (size < n) {
    size = 0;
    memory.reset();
    memory.reset(new (std::align_val_t{64}) R[static_cast<std::size_t>(n)]);
    size = n;
  }
  return memory.get();
}

/// Steps of the reduction whose products are summed in registers: elements [0, vectors · vector_length) from these
/// offsets in every strip of dY and of X, and so on, `count` times.
struct steps {
  std::int64_t dy, x;
  std::int64_t vectors;    ///< step_vectors, or a power of two below for the last one
  std::int64_t count = 1;  ///< of one that is shorter, 1
};

/// Vectors of the step at the start of so many elements.
template <Real R>
[[nodiscard]] constexpr std::int64_t first_step_vectors(std::int64_t length) {
  auto const vectors = static_cast<std::uint64_t>(ceil_div(length, vector_length<R>));
  return std::min(step_vectors, static_cast<std::int64_t>(std::bit_ceil(vectors)));
}

/// What `length` elements are with their last step, which reaches past the end.
template <Real R>
[[nodiscard]] constexpr std::int64_t padded_length(std::int64_t length) {
  auto const whole = length / step_length<R> * step_length<R>;
  return whole == length ? whole : whole + first_step_vectors<R>(length - whole) * vector_length<R>;
}

/// Cuts `length` elements into steps, those of `together` elements summed at a time; past the end dY is zero.
/// @param dy_pitch, x_pitch  from the first of these to the next
template <Real R>
[[nodiscard]] std::vector<steps> cut_steps(std::int64_t length, std::int64_t together, std::int64_t dy_pitch,
                                           std::int64_t x_pitch) {
  std::vector<steps> out;
  std::int64_t dy = 0, x = 0;
  for (auto left = length; left > 0; left -= together, dy += dy_pitch, x += x_pitch) {
    auto const count = std::min(left, together) / step_length<R>;
    auto const whole = count * step_length<R>;
    auto const rest = std::min(left, together) - whole;
    if (count > 0) out.push_back({dy, x, step_vectors, count});
    if (rest > 0) out.push_back({dy + whole, x + whole, first_step_vectors<R>(rest)});
  }
  return out;
}

/// Strips in the workspace, those of some pieces of a plan. That of row r starts at dy + (r - first_row) · dy_pitch;
/// that of column c at x + column[c], plus group_pitch for every group of rows between that of the first row and that
/// of r.
template <Real R>
struct strips {
  R const* dy;
  std::int64_t dy_pitch;
  std::int64_t first_row;
  R const* x;
  std::uint32_t const* column;
  std::int64_t rows_of_group;
  std::int64_t group_pitch;
};

/// out[k] += dY strip · X strip of column k, for N columns and the steps' length.
/// 2 · N · length flops; one read of each column's strip, the row's stays in registers for a step.
template <std::size_t N, std::int64_t Vectors, Real R>
SARA_INLINE void add_chunk(R const* dy, R const* x, steps const& p, std::uint32_t const* column,
                           std::uint16_t const* columns, R* out) {
  constexpr auto n = lane_count<R>;
  constexpr auto length = vector_length<R>;
  lanes<R> sums[(N + n - 1) / n * n];
  R const* strip[N];
  SARA_UNROLL
  for (std::size_t k = 0; k < N; ++k) {
    strip[k] = x + column[columns[k]];
    sums[k] = lanes<R>{};
  }
  auto left = Vectors == step_vectors ? p.count : 1;  // shorter ones are alone
  do {
    lanes<R> row[Vectors];
    SARA_UNROLL
    for (std::int64_t i = 0; i < Vectors; ++i) load<R>(row[i], dy + i * length);
    SARA_UNROLL
    for (std::size_t k = 0; k < N; ++k) {
      SARA_UNROLL
      for (std::int64_t i = 0; i < Vectors; ++i) {
        lanes<R> v;
        load<R>(v, strip[k] + i * length);
        sums[k] += row[i] * v;
      }
      strip[k] += Vectors * length;
    }
    dy += Vectors * length;
  } while (Vectors == step_vectors && --left > 0);
  SARA_UNROLL
  for (std::size_t first = 0; first < N; first += n) {
    constexpr auto last_count = (N - 1) % n + 1;
    std::array<R, n> part;
    if (N - first >= n) {
      sum_lanes<R, n>(sums + first);
      store<R>(sums[first], part.data());
      add_first<n, R>(part.data(), out + first);
    } else {
      sum_lanes<R, last_count>(sums + first);
      store<R>(sums[first], part.data());
      add_first<last_count, R>(part.data(), out + first);
    }
  }
}

/// Adds the products of some steps at the slots of one run, whose chunks have N entries.
template <std::size_t N, std::int64_t Vectors, Real R>
void add_run(host_sampling_plan const& plan, host_sampling_plan::run const& run, strips<R> const& s, steps const& p,
             std::uint16_t const* columns, R* out) {
  constexpr std::size_t ahead = 3;  // what a chunk needs is asked for so many chunks before
  auto const chunks = plan.chunks();
  auto const first_group = s.first_row / s.rows_of_group;
  auto const* const column = s.column + run.column;
  auto const last = static_cast<std::size_t>(run.first + run.count);
  for (auto i = static_cast<std::size_t>(run.first); i < last; ++i) {
    auto const later = chunks[std::min(i + ahead, chunks.size() - 1)];
    __builtin_prefetch(columns + later.slot());
    __builtin_prefetch(out + later.slot(), 1);
    __builtin_prefetch(out + later.slot() + N - 1, 1);
    R const* const next = s.dy + (chunks[std::min(i + 1, last - 1)].row() - s.first_row) * s.dy_pitch + p.dy;
    SARA_UNROLL
    for (std::int64_t v = 0; v < Vectors; ++v) __builtin_prefetch(next + v * vector_length<R>);

    auto const chunk = chunks[i];
    R const* const dy = s.dy + (chunk.row() - s.first_row) * s.dy_pitch + p.dy;
    R const* x = s.x + p.x;
    if (s.group_pitch != 0) x += (chunk.row() / s.rows_of_group - first_group) * s.group_pitch;
    add_chunk<N, Vectors, R>(dy, x, p, column, columns + chunk.slot(), out + chunk.slot());
  }
}

/// out[j] += the product of the strips of row_j and column_j, step after step, for every slot of these pieces.
template <Real R>
void add_products(host_sampling_plan const& plan, host_sampling_plan::piece_range const& pieces, strips<R> const& s,
                  std::span<steps const> reduction, std::uint16_t const* columns, R* out) {
  static constexpr auto longest = static_cast<std::size_t>(host_sampling_plan::longest_chunk);
  static constexpr auto add_by_vectors_and_length = []<std::size_t... At>(std::index_sequence<At...>) {
    return std::array{&add_run<At % longest + 1, std::int64_t{1} << At / longest, R>...};
  }
  (std::make_index_sequence<longest * std::bit_width(static_cast<std::uint64_t>(step_vectors))>{});
  for (auto piece = pieces.first; piece < pieces.last; ++piece)
    for (auto const& p : reduction) {
      auto const first = longest * static_cast<std::size_t>(std::countr_zero(static_cast<std::uint64_t>(p.vectors)));
      for (auto const& run : plan.piece(piece))
        add_by_vectors_and_length[first + static_cast<std::size_t>(run.length - 1)](plan, run, s, p, columns, out);
    }
}

}  // namespace sara::detail
