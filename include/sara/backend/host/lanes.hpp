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

/// Vectors of a register's width: GCC's and Clang's vector extension. (GCC keeps wider ones in memory.)
///
/// They are passed by reference: by value, the calling convention would depend on the instruction set.
namespace sara::detail {

#if defined(__AVX512F__)
inline constexpr std::size_t register_bytes = 64, register_count = 32;
#elif defined(__AVX__)
inline constexpr std::size_t register_bytes = 32, register_count = 16;
#elif defined(__aarch64__)
inline constexpr std::size_t register_bytes = 16, register_count = 32;
#else
inline constexpr std::size_t register_bytes = 16, register_count = 16;
#endif

/// As many bits as a number has.
template <Real R>
using bits_of_number = std::conditional_t<sizeof(R) == 4, std::uint32_t, std::uint64_t>;

template <Real R>
struct lanes_of {
  // NOLINTBEGIN(modernize-use-using): the attribute needs a typedef
  typedef R type __attribute__((vector_size(register_bytes)));
  typedef std::conditional_t<sizeof(R) == 4, std::int32_t, std::int64_t> index
      __attribute__((vector_size(register_bytes)));
  typedef bits_of_number<R> bits __attribute__((vector_size(register_bytes)));
  // NOLINTEND(modernize-use-using)
};
/// 4 to 16 floats or half as many doubles; arithmetic on them is elementwise.
template <Real R>
using lanes = typename lanes_of<R>::type;

template <Real R>
inline constexpr std::size_t lane_count = register_bytes / sizeof(R);

template <Real R>
SARA_INLINE void load(lanes<R>& to, R const* from) {
  std::memcpy(&to, from, sizeof to);
}
template <Real R>
SARA_INLINE void store(lanes<R> const& from, R* to) {
  std::memcpy(to, &from, sizeof from);
}

/// Makes compilers hold v in a register: GCC would read again from memory, in each instruction that takes v, what a
/// loop has loaded once.
template <Real R>
SARA_INLINE void keep_in_register([[maybe_unused]] lanes<R>& v) {
#if defined(__CUDACC__)
#elif defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}

/// to[l] = lane from(l) of a and b, one after the other.
/// @tparam From  a lambda without captures: std::size_t → std::size_t, constant
template <Real R, class From>
SARA_INLINE void shuffle(lanes<R> const& a, lanes<R> const& b, lanes<R>& to, From) {
  constexpr auto n = lane_count<R>;
#ifdef __CUDACC__  // nvcc's front end has no shuffles
  R ab[2 * n], picked[n];
  store<R>(a, ab);
  store<R>(b, ab + n);
  for (std::size_t l = 0; l < n; ++l) picked[l] = ab[From{}(l)];
  load<R>(to, picked);
#else
  [&]<std::size_t... At>(std::index_sequence<At...>) __attribute__((always_inline)) {
#ifdef __clang__
    to = __builtin_shufflevector(a, b, From{}(At)...);
#else
    to = __builtin_shuffle(a, b, typename lanes_of<R>::index{From{}(At)...});
#endif
  }
  (std::make_index_sequence<n>{});
#endif
}

/// a and b exchange lanes at distance H: a keeps its lower ones and gets b's, b the upper ones. The step of a
/// transposition.
template <std::size_t H, Real R>
SARA_INLINE void exchange(lanes<R>& a, lanes<R>& b) {
  constexpr auto n = lane_count<R>;
  lanes<R> lower;
  shuffle<R>(a, b, lower, [](std::size_t l) { return (l & H) != 0 ? n + l - H : l; });
  shuffle<R>(a, b, b, [](std::size_t l) { return (l & H) != 0 ? n + l : l + H; });
  a = lower;
}

/// rows[i][j] = rows[j][i]
template <Real R, std::size_t H = 1>
SARA_INLINE void transpose(std::array<lanes<R>, lane_count<R>>& rows) {
  if constexpr (H < lane_count<R>) {
    SARA_UNROLL
    for (std::size_t i = 0; i < lane_count<R>; ++i)
      if ((i & H) == 0) exchange<H, R>(rows[i], rows[i + H]);
    transpose<R, 2 * H>(rows);
  }
}

/// Of each Group lanes of a, followed by the same of b, dealt in pieces of Piece lanes: the sums of neighbouring
/// pieces. One instruction a shuffle where a piece is a number in 16 bytes, or 16 bytes of the whole.
template <std::size_t Piece, std::size_t Group, Real R>
SARA_INLINE void add_neighbours(lanes<R> const& a, lanes<R> const& b, lanes<R>& sum) {
  static constexpr auto source = [](std::size_t l, std::size_t odd) {
    auto const at = (2 * (l % Group / Piece) + odd) * Piece + l % Piece;  // in the Group lanes of a and those of b
    return at / Group * lane_count<R> + l / Group * Group + at % Group;
  };
  lanes<R> even, odd;
  shuffle<R>(a, b, even, [](std::size_t l) { return source(l, 0); });
  shuffle<R>(a, b, odd, [](std::size_t l) { return source(l, 1); });
  sum = even + odd;
}

/// Lane l of v[0] becomes the sum of all lanes of v[l], for the first N ≤ lane_count; the other lanes mean nothing.
/// About three instructions a sum. v is overwritten.
template <Real R, std::size_t N, std::size_t H = 1>
SARA_INLINE void sum_lanes(lanes<R>* v) {
  if constexpr (H < lane_count<R>) {
    constexpr auto of_16_bytes = 16 / sizeof(R);
    constexpr bool inside = H < of_16_bytes;
    constexpr auto pairs = (N + 1) / 2;
    SARA_UNROLL
    for (std::size_t i = 0; i < pairs; ++i)
      add_neighbours<inside ? 1 : of_16_bytes, inside ? of_16_bytes : lane_count<R>, R>(
          v[2 * i], v[2 * i + (2 * i + 1 < N)], v[i]);
    sum_lanes<R, pairs, 2 * H>(v);
  }
}

/// to[l] += from[l] for the first N lanes, in pieces of powers of two: numbers beyond them are not touched.
template <std::size_t N, Real R, std::size_t Piece = lane_count<R>>
SARA_INLINE void add_first(R const* from, R* to) {
  if constexpr ((N & Piece) != 0) {
    typedef R piece __attribute__((vector_size(Piece * sizeof(R))));  // NOLINT(modernize-use-using): as lanes_of
    piece sum, more;
    std::memcpy(&sum, to, sizeof sum);
    std::memcpy(&more, from, sizeof more);
    sum += more;
    std::memcpy(to, &sum, sizeof sum);
    from += Piece;
    to += Piece;
  }
  if constexpr (Piece > 1) add_first<N, R, Piece / 2>(from, to);
}

}  // namespace sara::detail
