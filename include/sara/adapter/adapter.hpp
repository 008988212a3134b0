// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <sara/error.hpp>
#include <sara/store/check_positions.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// What one tensor learned: ΔP at its positions.
struct adapter_tensor {
  extents shape;                                                ///< of the base tensor
  dtype type = dtype::float32;                                  ///< of the base tensor
  std::uint64_t base_hash = 0;                                  ///< of the base tensor before training, see base_hash()
  std::vector<std::int64_t> positions;                          ///< [nnz], row-major, strictly ascending
  std::variant<std::vector<float>, std::vector<double>> delta;  ///< [nnz], doubles for float64 tensors
};

/// A trained adapter: the sparse ΔP of a model, by tensor name. Plain data in host memory.
///
/// It stores its positions and never rebuilds a mask from base weights; it knows by hash which weights it belongs to.
struct adapter {
  std::map<std::string, adapter_tensor> tensors;

  /// Number of stored entries, over all tensors.
  [[nodiscard]] std::int64_t count() const {
    std::int64_t n = 0;
    for (auto const& [name, tensor] : tensors) n += static_cast<std::int64_t>(tensor.positions.size());
    return n;
  }
};

/// An adapter, which must outlive this, with its share in a merge.
struct weighted_adapter {
  weighted_adapter(adapter const& a, double share) : source{&a}, scale{share} {}
  weighted_adapter(adapter const&&, double) = delete;  // it would dangle

  adapter const* source;
  double scale;
};

namespace detail {

/// @throws Error  unless there is one finite delta a position, of the type that the tensor's dtype asks for
template <class Error>
void require_delta(std::string const& where, adapter_tensor const& tensor) {
  auto const wide = tensor.type == dtype::float64;
  require<Error>(std::holds_alternative<std::vector<double>>(tensor.delta) == wide, where, ": expected deltas in ",
                 wide ? "double" : "float", " for ", tensor.type, ", got ", wide ? "float" : "double");
  std::visit(
      [&](auto const& delta) {
        require<Error>(delta.size() == tensor.positions.size(), where, ": expected one delta a position, got ",
                       delta.size(), " for ", tensor.positions.size());
        for (auto const d : delta) require<Error>(std::isfinite(d), where, ": expected finite values, got ", d);
      },
      tensor.delta);
}

/// @throws Error  unless positions are strictly ascending and within the tensor, and the deltas fit
template <class Error>
void require_valid(std::string const& where, adapter_tensor const& tensor) {
  require_positions<Error>(where, tensor.positions, tensor.shape.product());
  require_delta<Error>(where, tensor);
}

/// @throws base_error, shape_error  unless both are of the same base tensor
inline void require_same_base(std::string const& name, adapter_tensor const& a, adapter_tensor const& b) {
  require<shape_error>(a.shape == b.shape && a.type == b.type, "merge '", name, "': expected ", a.type, " ", a.shape,
                       ", got ", b.type, " ", b.shape);
  require<base_error>(a.base_hash == b.base_hash, "merge '", name,
                      "': expected adapters of the same base weights, got base hashes ", a.base_hash, " and ",
                      b.base_hash);
}

/// a ← a + scale · b, over the union of their positions.
template <Real R>
void add_scaled(adapter_tensor& a, adapter_tensor const& b, double scale) {
  auto const& delta_a = std::get<std::vector<R>>(a.delta);
  auto const& delta_b = std::get<std::vector<R>>(b.delta);
  std::vector<std::int64_t> positions;
  std::vector<R> delta;
  positions.reserve(std::max(a.positions.size(), b.positions.size()));
  delta.reserve(positions.capacity());
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.positions.size() || j < b.positions.size()) {
    bool const from_a = j == b.positions.size() || (i < a.positions.size() && a.positions[i] <= b.positions[j]);
    bool const from_b = i == a.positions.size() || (j < b.positions.size() && b.positions[j] <= a.positions[i]);
    positions.push_back(from_a ? a.positions[i] : b.positions[j]);
    delta.push_back(static_cast<R>((from_a ? static_cast<double>(delta_a[i]) : 0.0) +
                                   (from_b ? scale * static_cast<double>(delta_b[j]) : 0.0)));
    i += from_a;
    j += from_b;
  }
  a.positions = std::move(positions);
  a.delta = std::move(delta);
}

}  // namespace detail

/// ΔP = Σ αₖ ΔPₖ, over the union of their positions.  (SaRA, eq. 9 for one, eq. 10 for two)
///
///     auto both = sara::merge({{style, 0.6}, {subject, 0.6}});
///
/// @throws base_error, shape_error  unless tensors of one name belong to the same base weights
/// @throws value_error  for a scale that is not finite, and for tensors that contradict themselves
/// Complexity: O(adapters · entries).
/// Example: tests/adapter/adapter.cpp
[[nodiscard]] inline adapter merge(std::vector<weighted_adapter> const& parts) {
  adapter out;
  for (auto const& part : parts) {
    detail::require<value_error>(std::isfinite(part.scale), "merge: expected a finite scale, got ", part.scale);
    for (auto const& [name, tensor] : part.source->tensors) {
      detail::require_valid<value_error>("merge '" + name + "'", tensor);
      auto const [found, is_new] = out.tensors.try_emplace(name);
      auto& sum = found->second;
      if (is_new) {
        sum = {tensor.shape, tensor.type, tensor.base_hash, {}, {}};
        if (tensor.type == dtype::float64) sum.delta.emplace<std::vector<double>>();
      }
      detail::require_same_base(name, sum, tensor);
      if (tensor.type == dtype::float64)
        detail::add_scaled<double>(sum, tensor, part.scale);
      else
        detail::add_scaled<float>(sum, tensor, part.scale);
    }
  }
  return out;
}

}  // namespace sara
