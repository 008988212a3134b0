// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include <sara/backend/first_at_least.hpp>
#include <sara/backend/positions.hpp>
#include <sara/backend/strided_matrix.hpp>
#include <sara/cuda/sampled_product.cuh>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara::cuda::detail {

struct number_each {
  std::int64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i) const { to[i] = i; }
};

/// out[j] += Σ_t [index_t = row_j] dY[t, col_j], with the tokens in order of their row.
template <Positions P, class Dy, Real R>
struct sum_tokens {
  P positions;
  matrix_entries<Dy> dy;
  std::int64_t const* rows;    // [tokens], ascending
  std::int64_t const* tokens;  // [tokens]
  std::int64_t count;
  R* out;
  SARA_HOST_DEVICE void operator()(std::int64_t slot) const {
    auto const position = positions.position(slot);
    auto const row = position / positions.shape().cols;
    auto const col = position % positions.shape().cols;
    auto first = sara::detail::first_at_least(count, row, [this](std::int64_t i) { return rows[i]; });
    R sum = 0;
    for (; first < count && rows[first] == row; ++first)
      sum += static_cast<R>(widen(dy.data[tokens[first] * dy.row_stride + col * dy.col_stride]));
    out[slot] += sum;
  }
};

/// Extra memory: 32 bytes a token, and what a radix sort wants. Waits, since the index is the host's.
template <class Executor, Positions P, Real R>
void sampled_rows(Executor const& machine, const_tensor_view const& dy, std::span<std::int64_t const> index,
                  P positions, R* out) {
  auto const m = sara::detail::as_matrix("dY", dy);
  auto const count = static_cast<std::int64_t>(index.size());
  if (count == 0 || positions.count() == 0) return;
  auto rows = machine.template scratch<std::int64_t>(count);
  auto tokens = machine.template scratch<std::int64_t>(count);
  machine.upload(index.data(), rows.data(), index.size_bytes());
  machine.call_each(count, number_each{tokens.data()});
  machine.sort(rows, tokens, count);
  visit(dy.type(), [&]<class Dy>() {
    machine.call_each(positions.count(), sum_tokens<P, Dy, R>{positions,
                                                              {dy.template as<Dy>().data, m.row_stride, m.col_stride},
                                                              rows.data(),
                                                              tokens.data(),
                                                              count,
                                                              out});
  });
}

}  // namespace sara::cuda::detail
