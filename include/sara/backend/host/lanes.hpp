// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <sara/tensor/dtype.hpp>

#ifdef __CUDACC__
#define SARA_UNROLL  // nvcc's front end does not know the pragma
#else
#define SARA_UNROLL _Pragma("GCC unroll 16")  // only with constant indices do compilers keep arrays in registers
#endif
#define SARA_INLINE [[gnu::always_inline]] inline  // a call would send the vectors through memory

/// Vectors of 64 bytes on whatever registers the machine has: GCC's and Clang's vector extension.
///
/// They are passed by reference: by value, the calling convention would depend on the instruction set.
namespace sara::detail {

template <Real R>
struct lanes_of {
  // NOLINTBEGIN(modernize-use-using): the attribute needs a typedef
  typedef R type __attribute__((vector_size(64)));
  typedef std::conditional_t<sizeof(R) == 4, std::int32_t, std::int64_t> index __attribute__((vector_size(64)));
  // NOLINTEND(modernize-use-using)
};
/// 16 floats or 8 doubles; arithmetic on them is elementwise.
template <Real R>
using lanes = typename lanes_of<R>::type;

template <Real R>
inline constexpr std::size_t lane_count = 64 / sizeof(R);

template <Real R>
SARA_INLINE void load(lanes<R>& to, R const* from) {
  std::memcpy(&to, from, sizeof to);
}
template <Real R>
SARA_INLINE void store(lanes<R> const& from, R* to) {
  std::memcpy(to, &from, sizeof from);
}

/// What becomes of a and b when they exchange lanes at distance H: `even` keeps a's lower ones and gets b's, `odd` the
/// upper ones. The step of a transposition, and of a sum over lanes.
template <std::size_t H, Real R>
SARA_INLINE void exchange(lanes<R> const& a, lanes<R> const& b, lanes<R>& even, lanes<R>& odd) {
  constexpr auto n = lane_count<R>;
#ifdef __CUDACC__  // nvcc's front end has no shuffles
  R ab[2 * n], lower[n], upper[n];
  store<R>(a, ab);
  store<R>(b, ab + n);
  for (std::size_t i = 0; i < n; ++i) {
    lower[i] = ab[i & H ? n + i - H : i];
    upper[i] = ab[i & H ? n + i : i + H];
  }
  load<R>(even, lower);
  load<R>(odd, upper);
#else
  [&]<std::size_t... At>(std::index_sequence<At...>) __attribute__((always_inline)) {
#ifdef __clang__
    lanes<R> const upper = __builtin_shufflevector(a, b, (At & H ? n + At : At + H)...);
    even = __builtin_shufflevector(a, b, (At & H ? n + At - H : At)...);
#else
    using index = typename lanes_of<R>::index;
    lanes<R> const upper = __builtin_shuffle(a, b, index{(At & H ? n + At : At + H)...});
    even = __builtin_shuffle(a, b, index{(At & H ? n + At - H : At)...});
#endif
    odd = upper;
  }
  (std::make_index_sequence<n>{});
#endif
}

/// rows[i][j] = rows[j][i]
template <Real R, std::size_t H = 1>
SARA_INLINE void transpose(std::array<lanes<R>, lane_count<R>>& rows) {
  if constexpr (H < lane_count<R>) {
    SARA_UNROLL
    for (std::size_t i = 0; i < lane_count<R>; ++i)
      if ((i & H) == 0) exchange<H, R>(rows[i], rows[i + H], rows[i], rows[i + H]);
    transpose<R, 2 * H>(rows);
  }
}

/// Lane l of v[0] becomes the sum of all lanes of v[l], for the first N ≤ lane_count; the other lanes mean nothing.
/// About three instructions a sum. v is overwritten.
template <Real R, std::size_t N, std::size_t H = 1>
SARA_INLINE void sum_lanes(lanes<R>* v) {
  if constexpr (H < lane_count<R>) {
    constexpr auto pairs = (N + 1) / 2;
    SARA_UNROLL
    for (std::size_t i = 0; i < pairs; ++i) {
      lanes<R> even, odd;
      exchange<H, R>(v[2 * i], v[2 * i + (2 * i + 1 < N)], even, odd);
      v[i] = even + odd;
    }
    sum_lanes<R, pairs, 2 * H>(v);
  }
}

}  // namespace sara::detail
