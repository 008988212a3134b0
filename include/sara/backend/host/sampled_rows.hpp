// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <sara/backend/positions.hpp>
#include <sara/backend/strided_matrix.hpp>
#include <sara/backend/thread_pool.hpp>
#include <sara/tensor/view.hpp>

namespace sara::detail {

/// out[j] += Σ_t [index_t = row_j] dy[t, col_j], with dy [tokens, cols]: rows that no token looks up are not visited.
/// Extra memory: 16 bytes a token.
template <Positions P, Real R>
void sampled_rows(thread_pool& pool, strided_matrix const& dy, std::span<std::int64_t const> index, P positions,
                  R* out) {
  auto const row_of = [&](std::int64_t token) { return index[static_cast<std::size_t>(token)]; };
  std::vector<std::int64_t> tokens(index.size());  // by row, in their order
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(), [&](std::int64_t a, std::int64_t b) { return row_of(a) < row_of(b); });
  std::vector<std::span<std::int64_t const>> same_row;
  for (auto first = tokens.cbegin(); first != tokens.cend();) {
    auto const last = std::find_if(first, tokens.cend(), [&](std::int64_t t) { return row_of(t) != row_of(*first); });
    same_row.emplace_back(first, last);
    first = last;
  }
  auto const cols = positions.shape().cols;
  visit(dy.tensor.type(), [&]<class T>() {
    auto const* const data = dy.tensor.template as<T>().data;
    pool.parallel_for(std::ssize(same_row), [&](std::int64_t i) {
      auto const of_row = same_row[static_cast<std::size_t>(i)];
      auto const begin = row_of(of_row.front()) * cols;
      positions.for_each(positions.lower_bound(begin), positions.lower_bound(begin + cols),
                         [&](std::int64_t slot, std::int64_t position) {
                           auto const* const column = data + (position - begin) * dy.col_stride;
                           R sum = 0;
                           for (auto const t : of_row) sum += static_cast<R>(widen(column[t * dy.row_stride]));
                           out[slot] += sum;
                         });
    });
  });
}

}  // namespace sara::detail
