// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <sara/backend/positions.hpp>
#include <sara/backend/strided_matrix.hpp>
#include <sara/cuda/matrix.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara::cuda::detail {

/// Bytes of a panel of the dense product in float32: small enough to be gathered from the second-level cache (40 MB and
/// more on sm_80 and later), in float64 too, large enough for full tiles.
inline constexpr std::int64_t panel_bytes = std::int64_t{8} << 20;
/// Bytes of operands that are brought into another order at a time.
inline constexpr std::int64_t copy_bytes = std::int64_t{32} << 20;

/// Rows of cuBLAS's common tiles.
inline constexpr std::int64_t tile_rows_of_blas = 128;

/// As many of `all` as are wanted, a whole number of tiles where that is a part, at least one.
[[nodiscard]] inline std::int64_t whole_tiles(std::int64_t wanted, std::int64_t all) {
  if (wanted >= all) return all;
  return std::max<std::int64_t>(wanted > tile_rows_of_blas ? wanted - wanted % tile_rows_of_blas : wanted, 1);
}

/// A strided matrix of a known type, by address.
template <class T>
struct matrix_entries {
  T const* data;
  std::int64_t row_stride, col_stride;
};

/// out[j] += Σ_b dY[b, row_j] · X[b, col_j]: four neighbouring slots at a time, whose dY is mostly that of one row.
/// 2 flops for every two loads; neighbours along b should be neighbours in memory.
template <Positions P, class T, Real R>
struct dot_slots {
  static constexpr int slots = 4;

  P positions;
  matrix_entries<T> dy;
  matrix_entries<T> x;
  std::int64_t batch;
  R* out;

  template <class Lanes>
  SARA_HOST_DEVICE void operator()(std::int64_t group, Lanes lanes) const {
    auto const first = group * slots;
    auto const cols = positions.shape().cols;
    T const* row[slots];
    T const* col[slots];
    R sum[slots] = {};
    for (int k = 0; k < slots; ++k) {
      auto const slot = first + k < positions.count() ? first + k : first;  // past the end the first, once more
      auto const position = positions.position(slot);
      row[k] = dy.data + position / cols * dy.col_stride;
      col[k] = x.data + position % cols * x.col_stride;
    }
    for (std::int64_t b = lanes.id; b < batch; b += Lanes::count)
      for (int k = 0; k < slots; ++k)
        sum[k] += static_cast<R>(widen(row[k][b * dy.row_stride])) * static_cast<R>(widen(col[k][b * x.row_stride]));
    for (int k = 0; k < slots; ++k) {
      auto const total = lanes.sum(sum[k]);
      if (lanes.id == 0 && first + k < positions.count()) out[first + k] += total;
    }
  }
};

/// out[j] += panel[position_j], of the slots from `first` on; the panel begins at a row.
template <Positions P, Real R>
struct gather_panel {
  P positions;
  R const* panel;
  std::int64_t first_slot, first_position;
  R* out;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    auto const slot = first_slot + i;
    out[slot] += panel[positions.position(slot) - first_position];
  }
};

/// What the device wants to know of positions beforehand: where the slots of each panel of rows begin. Host memory.
struct row_panels {
  std::int64_t rows = 0;                 ///< of a panel
  std::vector<std::int64_t> first_slot;  ///< [panels + 1]
  [[nodiscard]] std::int64_t bytes() const {
    return static_cast<std::int64_t>(first_slot.size() * sizeof(std::int64_t));
  }
};

template <Positions P>
struct first_slots {
  P positions;
  std::int64_t step;  // positions of a panel
  std::int64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t panel) const {
    auto const wanted = panel * step;
    auto const size = positions.shape().size();
    to[panel] = positions.lower_bound(wanted < size ? wanted : size);
  }
};

/// Waits where a matrix has more than one panel.
template <class Executor, Positions P>
[[nodiscard]] row_panels plan_panels(Executor const& machine, P positions) {
  auto const shape = positions.shape();
  row_panels out;
  if (shape.size() == 0) return out;
  auto const row_bytes = shape.cols * static_cast<std::int64_t>(sizeof(float));
  out.rows = whole_tiles(panel_bytes / row_bytes, shape.rows);
  auto const panels = (shape.rows + out.rows - 1) / out.rows;
  out.first_slot = {0, positions.count()};
  if (panels == 1) return out;
  auto found = machine.template scratch<std::int64_t>(panels + 1);
  machine.call_each(panels + 1, first_slots<P>{positions, out.rows * shape.cols, found.data()});
  out.first_slot.resize(static_cast<std::size_t>(panels) + 1);
  machine.download(found.data(), out.first_slot.data(), out.first_slot.size() * sizeof(std::int64_t));
  return out;
}

/// Whether neighbours of a row are neighbours in memory, and rows follow each other.
[[nodiscard]] inline bool is_row_major(sara::detail::strided_matrix const& m) {
  return m.col_stride == 1 && m.row_stride >= m.cols;
}
/// Whether a matrix can be an operand of the dense product: row-major, or its transpose is.
[[nodiscard]] inline bool is_operand(sara::detail::strided_matrix const& m) {
  return is_row_major(m) || (m.row_stride == 1 && m.col_stride >= m.rows);
}
[[nodiscard]] inline operand operand_of(sara::detail::strided_matrix const& m) {
  bool const by_rows = is_row_major(m);
  return {m.tensor.bytes(), m.tensor.type(), by_rows ? m.row_stride : m.col_stride, !by_rows};
}

/// dYᵀ X by panels of rows, each gathered while it is in cache.
/// 2 · rows · cols · batch flops, one write and nnz reads of each panel. Extra memory: a panel.
template <class Executor, Positions P, Real R>
void panel_product(Executor const& machine, sara::detail::strided_matrix const& dy,
                   sara::detail::strided_matrix const& x, P positions, row_panels const& plan, R* out) {
  auto panel = machine.template scratch<R>(std::min(plan.rows, dy.cols) * x.cols);
  auto left = operand_of(dy);
  left.transposed = !left.transposed;
  auto const right = operand_of(x);
  auto const row_bytes = dy.col_stride * size_of(left.type);
  for (std::size_t p = 0; p + 1 < plan.first_slot.size(); ++p) {
    auto const first = plan.first_slot[p];
    auto const count = plan.first_slot[p + 1] - first;
    auto const row = static_cast<std::int64_t>(p) * plan.rows;
    if (count == 0) continue;
    auto part = left;
    part.data = static_cast<std::byte const*>(left.data) + row * row_bytes;
    machine.multiply({std::min(plan.rows, dy.cols - row), x.cols, dy.rows}, part, right, R{0}, panel.data(), x.cols);
    machine.call_each(count, gather_panel<P, R>{positions, panel.data(), first, row * x.cols, out});
  }
}

/// to[c, r] = from[r, c], where rows are not neighbours in memory.
template <class From, class T>
struct convert_transposed {
  matrix_entries<From> from;
  std::int64_t rows;
  T* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const {
    to[i] = narrow<T>(widen(from.data[i % rows * from.row_stride + i / rows * from.col_stride]));
  }
};

/// A matrix in T whose neighbours along the batch are neighbours in memory: itself, or a transposed copy of some rows.
template <Scalar T, class Executor>
class batch_contiguous {
 public:
  batch_contiguous(Executor const& machine, sara::detail::strided_matrix const& m, std::int64_t most_rows)
      : machine_{machine}, matrix_{m} {
    if (m.tensor.type() != dtype_of<T> || (is_row_major(m) && m.cols > 1 && m.rows > 1))
      copy_ = machine.template scratch<T>(m.cols * std::min(most_rows, m.rows));
  }

  /// Rows [first, first + count).
  [[nodiscard]] matrix_entries<T> rows(std::int64_t first, std::int64_t count) {
    if (copy_.size() == 0) return entries_from<T>(first);
    visit(matrix_.tensor.type(), [&]<class From>() {
      if constexpr (Real<T> || std::is_same_v<From, T>) {
        auto const from = entries_from<From>(first);
        if (is_row_major(matrix_))
          machine_.transpose(from.data, from.row_stride, count, matrix_.cols, copy_.data(), count);
        else
          machine_.call_each(count * matrix_.cols, convert_transposed<From, T>{from, count, copy_.data()});
      }
    });
    return {copy_.data(), 1, count};
  }

 private:
  template <class From>
  [[nodiscard]] matrix_entries<From> entries_from(std::int64_t row) const {
    return {matrix_.tensor.template as<From>().data + row * matrix_.row_stride, matrix_.row_stride, matrix_.col_stride};
  }

  Executor const& machine_;
  sara::detail::strided_matrix matrix_;
  typename Executor::template buffer<T> copy_;
};

/// One dot product an entry, of any dtypes and strides; of two dtypes both are converted to R first.
/// Extra memory: transposed copies of a slice of dY and X.
template <class Executor, Positions P, Real R>
void dot_product(Executor const& machine, sara::detail::strided_matrix const& dy, sara::detail::strided_matrix const& x,
                 P positions, R* out) {
  auto const type = dy.tensor.type() == x.tensor.type() ? dy.tensor.type() : dtype_of<R>;
  visit(type, [&]<class T>() {
    auto const row_bytes = (dy.cols + x.cols) * static_cast<std::int64_t>(sizeof(T));
    auto const slice = std::clamp<std::int64_t>(copy_bytes / row_bytes, 1, dy.rows);
    batch_contiguous<T, Executor> left{machine, dy, slice};
    batch_contiguous<T, Executor> right{machine, x, slice};
    using dots = dot_slots<P, T, R>;
    auto const groups = (positions.count() + dots::slots - 1) / dots::slots;
    for (std::int64_t first = 0; first < dy.rows; first += slice) {
      auto const count = std::min(slice, dy.rows - first);
      machine.call_each_by_lanes(groups,
                                 dots{positions, left.rows(first, count), right.rows(first, count), count, out});
    }
  });
}

/// out[j] += Σ_b dY[b, row_j] · X[b, col_j], the cheaper way.
template <class Executor, Positions P, Real R>
void sampled_product(Executor const& machine, const_tensor_view const& dy, const_tensor_view const& x, P positions,
                     row_panels const& plan, R* out) {
  auto const left = sara::detail::as_matrix("dY", dy);
  auto const right = sara::detail::as_matrix("X", x);
  if (left.rows == 0 || positions.count() == 0) return;
  bool const multiplies = dy.type() == x.type() && std::is_same_v<R, double> == (dy.type() == dtype::float64) &&
                          is_operand(left) && is_operand(right);
  auto const density = static_cast<double>(positions.count()) / static_cast<double>(positions.shape().size());
  if (multiplies && density >= machine.dense_density(dy.type()))
    panel_product(machine, left, right, positions, plan, out);
  else
    dot_product(machine, left, right, positions, out);
}

}  // namespace sara::cuda::detail
