// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <sara/host_device.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// The key of NaN, which nothing selects.
inline constexpr std::uint64_t never_key = ~std::uint64_t{0};

/// A score as an unsigned key of the same order: a < b exactly if order_key(a) < order_key(b); the zeros are equal.
[[nodiscard]] SARA_HOST_DEVICE inline std::uint64_t order_key(double score) {
  if (score != score) return never_key;
  auto const bits = std::bit_cast<std::uint64_t>(score + 0.0);  // -0 + 0 is +0
  return bits & (std::uint64_t{1} << 63) ? ~bits : bits | (std::uint64_t{1} << 63);
}
[[nodiscard]] SARA_HOST_DEVICE inline std::uint64_t order_key(std::uint64_t score) { return score; }

/// The double of an order_key; undoes order_key(double), but for the sign of zero.
[[nodiscard]] SARA_HOST_DEVICE inline double score_of_key(std::uint64_t key) {
  return std::bit_cast<double>(key & (std::uint64_t{1} << 63) ? key & ~(std::uint64_t{1} << 63) : ~key);
}

/// A score: score(weight, position) → float, double or std::uint64_t, the lower the sooner selected.
/// The weight comes widened (float, or double for float64); for one that is not finite the result is ignored. Trivially
/// copyable, callable where the backend computes. A float is compared as such, twice as many at a time as doubles.
template <class S>
concept Score = std::copy_constructible<S> && requires(S const s, float w, double d, std::int64_t i) {
  { order_key(s(w, i)) } -> std::same_as<std::uint64_t>;
  { order_key(s(d, i)) } -> std::same_as<std::uint64_t>;
};

/// What a score returns for an entry of type T.
template <Score S, Scalar T>
using score_of = std::remove_cvref_t<std::invoke_result_t<S const&, widened<T>, std::int64_t>>;

/// The key by which an entry is selected; never_key for NaN and infinite weights whatever their score.
template <Score S, Real R>
[[nodiscard]] SARA_HOST_DEVICE std::uint64_t entry_key(S const& score, R weight, std::int64_t position) {
  return std::isfinite(weight) ? order_key(score(weight, position)) : never_key;
}

/// Where selection ends: entries with a key below `bound`, then in ascending order of position `ties` entries whose
/// key is `bound` itself.
struct key_cut {
  std::uint64_t bound = 0;
  std::int64_t ties = 0;
};

/// Whether order_key(score) < bound, in the score's own type: one comparison of numbers, which compilers vectorise,
/// where a key takes several operations on bits.
/// @tparam V  what the score returns: float, double or std::uint64_t
template <class V>
class below_key {
 public:
  explicit below_key(std::uint64_t bound) : last_{last_below(bound)} {}
  [[nodiscard]] SARA_HOST_DEVICE bool operator()(V score) const { return score <= last_; }

 private:
  /// The largest score with a key below the bound, rounded down to V; NaN, which nothing reaches, if there is none.
  static V last_below(std::uint64_t bound) {
    constexpr auto infinity = std::numeric_limits<double>::infinity();
    if (bound <= order_key(-infinity)) return std::numeric_limits<V>::quiet_NaN();
    if (bound > order_key(infinity)) return std::numeric_limits<V>::infinity();
    double const last = std::nextafter(score_of_key(bound), -infinity);
    auto const rounded = static_cast<V>(last);
    return static_cast<double>(rounded) > last ? std::nextafter(rounded, -std::numeric_limits<V>::infinity()) : rounded;
  }

  V last_;
};

template <>
class below_key<std::uint64_t> {
 public:
  explicit below_key(std::uint64_t bound) : bound_{bound} {}
  [[nodiscard]] SARA_HOST_DEVICE bool operator()(std::uint64_t score) const { return score < bound_; }

 private:
  std::uint64_t bound_;
};

/// A tensor with the score of its entries.
template <Score S>
struct scored_tensor {
  const_tensor_view tensor;
  S score;
};

/// The cut that takes a tensor's entries with a score below a threshold, which is not NaN.
template <Score S>
[[nodiscard]] key_cut cut_below(scored_tensor<S> const& scored, double threshold) {
  return visit(scored.tensor.type(), [&]<class T>() -> key_cut {
    if constexpr (std::same_as<score_of<S, T>, std::uint64_t>) {
      double const least = std::ceil(threshold);  // of the whole numbers that are not below it
      if (least >= 0x1p64) return {never_key, 0};
      return {least > 0 ? static_cast<std::uint64_t>(least) : 0, 0};
    } else {
      return {order_key(threshold), 0};
    }
  });
}

/// What compact found in one tensor: positions, ascending, in the backend's memory.
template <class Buffer>
struct compaction {
  Buffer positions;             ///< int64, [count]
  std::int64_t count = 0;       ///< selected entries
  std::int64_t not_finite = 0;  ///< NaN and infinite weights, never selected
  std::int64_t ties = 0;        ///< of those selected, entries whose key is the cut's bound
};

}  // namespace sara
