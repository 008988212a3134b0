// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <sara/error.hpp>
#include <sara/select/concept.hpp>

namespace sara {

namespace detail {

/// An element of a tensor of run-time dtype, as double.
struct any_entries {
  entries<std::byte const> bytes;  // data in bytes, strides in elements
  dtype type;

  explicit any_entries(const_tensor_view const& v) : type{v.type()} {
    visit(type, [&]<class T>() {
      auto const typed = v.template as<T>();
      bytes = {reinterpret_cast<std::byte const*>(typed.data), typed.count, typed.dense, typed.rank, {}, {}};
      std::copy_n(typed.shape, max_rank, bytes.shape);
      std::copy_n(typed.stride, max_rank, bytes.stride);
    });
  }
  [[nodiscard]] SARA_HOST_DEVICE double operator[](std::int64_t i) const {
    auto const at = bytes.offset(i);
    switch (type) {
      case dtype::float64:
        return reinterpret_cast<double const*>(bytes.data)[at];
      case dtype::float32:
        return static_cast<double>(reinterpret_cast<float const*>(bytes.data)[at]);
      case dtype::bfloat16:
        return static_cast<double>(widen(reinterpret_cast<bfloat16 const*>(bytes.data)[at]));
      default:
        return static_cast<double>(widen(reinterpret_cast<float16 const*>(bytes.data)[at]));
    }
  }
};

/// The tensor that a policy was given for a weight.
/// @throws name_error   if there is none
/// @throws shape_error  if it has other extents
/// @throws memory_error if it is in other memory than the weight
[[nodiscard]] inline const_tensor_view fed_for(char const* policy, std::vector<const_named_tensor> const& fed,
                                               const_named_tensor const& w) {
  auto const found = std::find_if(fed.begin(), fed.end(), [&](auto const& item) { return item.name == w.name; });
  require<name_error>(found != fed.end(), policy, ": expected a tensor for '", w.name, "', got none");
  require<shape_error>(found->tensor.shape() == w.tensor.shape(), policy, " for '", w.name, "': expected extents ",
                       w.tensor.shape(), ", got ", found->tensor.shape());
  require<memory_error>(found->tensor.where() == w.tensor.where(), policy, " for '", w.name, "': expected a tensor in ",
                        w.tensor.where(), ", got one in ", found->tensor.where());
  return found->tensor;
}

}  // namespace detail

/// The entries of highest Fisher information (FishMask): the mean of squared gradients, which the user collects.
/// The tensors must live until selection has ended; entries whose score is NaN are never selected.
///
///     sara::fisher{.information = sara::views_of<sara::const_tensor_view>(squared_gradients), .fraction = 0.05}
struct fisher {
  std::vector<const_named_tensor> information = {};  ///< one tensor a weight, of its name and extents
  std::optional<double> fraction = {};
  std::optional<std::int64_t> count = {};
  scope over = scope::model;

  struct score_type {
    detail::any_entries information;
    template <Real R>
    [[nodiscard]] SARA_HOST_DEVICE double operator()(R, std::int64_t position) const {
      return -information[position];
    }
  };
  [[nodiscard]] score_type score(const_named_tensor const& w) const {
    return {detail::any_entries{detail::fed_for("fisher", information, w)}};
  }
  [[nodiscard]] count_cut cut(const_named_tensor const&) const { return {fraction, count, over}; }
};

/// The entries that a full fine-tuning changed most (LT-SFT): |tuned - w|, of the weights that it ended with.
/// The tensors must live until selection has ended.
struct most_changed {
  std::vector<const_named_tensor> tuned = {};  ///< one tensor a weight, of its name and extents
  std::optional<double> fraction = {};
  std::optional<std::int64_t> count = {};
  scope over = scope::model;

  struct score_type {
    detail::any_entries tuned;
    template <Real R>
    [[nodiscard]] SARA_HOST_DEVICE double operator()(R w, std::int64_t position) const {
      auto const change = tuned[position] - static_cast<double>(w);
      return -std::abs(change);
    }
  };
  [[nodiscard]] score_type score(const_named_tensor const& w) const {
    return {detail::any_entries{detail::fed_for("most_changed", tuned, w)}};
  }
  [[nodiscard]] count_cut cut(const_named_tensor const&) const { return {fraction, count, over}; }
};

}  // namespace sara
