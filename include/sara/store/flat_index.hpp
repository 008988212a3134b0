// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include <sara/backend/first_at_least.hpp>
#include <sara/store/concept.hpp>

namespace sara {

namespace detail {

template <class Index>
struct convert_positions {
  std::int64_t const* from;
  Index* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = static_cast<Index>(from[i]); }
};

}  // namespace detail

/// Row-major indices, 4 bytes a position, or 8 in a tensor of more than 2^32 elements.
/// position: O(1); lower_bound: O(log nnz).
template <class Backend>
class flat_index {
 public:
  struct ref_type {
    std::uint32_t const* narrow = nullptr;
    std::uint64_t const* wide = nullptr;
    std::int64_t n = 0;
    matrix_shape matrix;

    [[nodiscard]] SARA_HOST_DEVICE std::int64_t count() const { return n; }
    [[nodiscard]] SARA_HOST_DEVICE matrix_shape shape() const { return matrix; }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t position(std::int64_t slot) const {
      return narrow ? static_cast<std::int64_t>(narrow[slot]) : static_cast<std::int64_t>(wide[slot]);
    }
    [[nodiscard]] SARA_HOST_DEVICE std::int64_t lower_bound(std::int64_t p) const {
      return detail::first_at_least(n, p, [this](std::int64_t slot) { return position(slot); });
    }
    template <class F>
    SARA_HOST_DEVICE void for_each(std::int64_t first, std::int64_t last, F&& f) const {
      if (narrow)
        for (auto slot = first; slot < last; ++slot) f(slot, static_cast<std::int64_t>(narrow[slot]));
      else
        for (auto slot = first; slot < last; ++slot) f(slot, static_cast<std::int64_t>(wide[slot]));
    }
  };

  flat_index(Backend const& backend, matrix_shape shape, std::int64_t const* positions, std::int64_t count)
      : shape_{shape}, count_{count} {
    bool const is_narrow = shape.size() - 1 <= static_cast<std::int64_t>(std::numeric_limits<std::uint32_t>::max());
    narrow_ = backend.template allocate<std::uint32_t>(is_narrow ? count : 0);
    wide_ = backend.template allocate<std::uint64_t>(is_narrow ? 0 : count);
    if (is_narrow)
      for_each(backend, all_positions{count}, detail::convert_positions<std::uint32_t>{positions, narrow_.data()});
    else
      for_each(backend, all_positions{count}, detail::convert_positions<std::uint64_t>{positions, wide_.data()});
  }

  [[nodiscard]] ref_type ref() const {
    return {narrow_.size() ? narrow_.data() : nullptr, wide_.data(), count_, shape_};
  }
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }
  [[nodiscard]] std::int64_t bytes() const noexcept {
    return static_cast<std::int64_t>(narrow_.size() * sizeof(std::uint32_t) + wide_.size() * sizeof(std::uint64_t));
  }

 private:
  typename Backend::template buffer<std::uint32_t> narrow_;
  typename Backend::template buffer<std::uint64_t> wide_;
  matrix_shape shape_;
  std::int64_t count_ = 0;
};

}  // namespace sara
