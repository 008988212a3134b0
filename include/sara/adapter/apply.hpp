// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/adapter/base_hash.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/error.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/tensor/traits.hpp>

namespace sara {

/// How to apply an adapter.
struct apply_options {
  double scale = 1;    ///< α of eq. 9, from 0 to 2 in the paper
  bool force = false;  ///< also to weights of another dtype or hash than the adapter's base
};

namespace detail {

template <class T, Real R>
struct add_delta {
  R const* original;
  R const* delta;
  R scale;
  entries<T> to;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    to[position] = narrow<T>(original[slot] + scale * delta[slot]);
  }
};

template <class Backend, class R>
struct adapter_columns {
  typename Backend::template buffer<R> original;
  typename Backend::template buffer<R> delta;
};

/// One tensor of an adapter, on its weights.
template <class Backend>
struct applied_tensor {
  tensor_view target;
  flat_index<Backend> store;
  std::variant<adapter_columns<Backend, float>, adapter_columns<Backend, double>> values;
};

}  // namespace detail

/// An adapter on the weights of a model, and what was there before.
///
/// The original values are kept compactly, so that undo restores every bit and rescale starts from them, not from
/// rounded sums. Weights stay as they are when this object ends. The tensors must outlive it.
template <TensorBackend Backend>
class applied_adapter {
 public:
  /// See apply.
  applied_adapter(Backend backend, adapter const& a, std::vector<named_tensor> const& weights, apply_options options)
      : backend_{std::move(backend)} {
    std::vector<named_tensor> targets;
    for (auto const& [name, tensor] : a.tensors) {
      auto const found =
          std::find_if(weights.begin(), weights.end(), [&key = name](auto const& w) { return w.name == key; });
      detail::require<name_error>(found != weights.end(), "apply: expected a tensor '", name,
                                  "' as in the adapter, got none of that name");
      auto const tied = std::find_if(targets.begin(), targets.end(), [&](auto const& other) {
        return detail::share_memory(found->tensor, other.tensor);
      });
      if (tied != targets.end())
        throw value_error(detail::text("apply: '", name, "' and '", tied->name,
                                       "' share memory: expected one of them in the adapter, got both"));
      targets.push_back(*found);
      check(name, tensor, found->tensor, options);
    }
    for (auto const& target : targets) add(target.tensor, a.tensors.at(target.name));  // not before all checks passed
    rescale(options.scale);
  }

  /// weights = original + scale · ΔP.  (SaRA, eq. 9)
  /// @throws value_error  for a scale that is not finite
  void rescale(double scale) {
    detail::require<value_error>(std::isfinite(scale), "apply: expected a finite scale, got ", scale);
    for (auto& part : parts_)
      visit(part.target.type(), [&]<class T>() {
        using R = widened<T>;
        auto const& values = std::get<detail::adapter_columns<Backend, R>>(part.values);
        for_each(backend_, part.store.ref(),
                 detail::add_delta<T, R>{values.original.data(), values.delta.data(), static_cast<R>(scale),
                                         part.target.template as<T>()});
      });
    backend_.synchronize();
  }

  /// Puts back every original value, bit by bit.
  void undo() {
    for (auto& part : parts_)
      std::visit([&](auto const& values) { scatter(backend_, values.original.data(), part.store.ref(), part.target); },
                 part.values);
    backend_.synchronize();
  }

 private:
  void check(std::string const& name, adapter_tensor const& tensor, tensor_view const& target,
             apply_options const& options) const {
    require_memory(backend_, "apply", target);
    detail::require<shape_error>(target.shape() == tensor.shape, "apply to '", name, "': expected extents ",
                                 tensor.shape, ", got ", target.shape());
    detail::require_valid<value_error>("apply to '" + name + "'", tensor);
    if (options.force) return;
    detail::require<dtype_error>(target.type() == tensor.type, "apply to '", name, "': expected ", tensor.type,
                                 " as the adapter was trained on, got ", target.type());
    detail::require<base_error>(base_hash(backend_, target) == tensor.base_hash, "apply to '", name,
                                "': expected the base weights that the adapter was trained on, got other ones "
                                "(is another adapter applied? merge them, or force)");
  }

  void add(tensor_view const& target, adapter_tensor const& tensor) {
    auto const count = static_cast<std::int64_t>(tensor.positions.size());
    auto positions = backend_.template allocate<std::int64_t>(count);
    backend_.upload(std::span{tensor.positions}, positions.data());
    detail::applied_tensor<Backend> out{
        target, flat_index<Backend>{backend_, matrix_shape::of(target.shape()), positions.data(), count}, {}};
    visit(target.type(), [&]<class T>() {
      using R = widened<T>;
      detail::adapter_columns<Backend, R> values{backend_.template allocate<R>(count),
                                                 backend_.template allocate<R>(count)};
      gather(backend_, target, out.store.ref(), values.original.data());
      auto const delta = std::visit([](auto const& d) { return std::vector<R>(d.begin(), d.end()); }, tensor.delta);
      backend_.upload(std::span{delta}, values.delta.data());
      out.values = std::move(values);
    });
    parts_.push_back(std::move(out));
  }

  Backend backend_;
  std::vector<detail::applied_tensor<Backend>> parts_;
};

/// Adds an adapter to the weights of a model, in place: P = P₀ + α ΔP.  (SaRA, eq. 9)
///
///     auto applied = sara::apply(backend, style, named_weights(model), {.scale = 0.8});
///     applied.undo();
///
/// Sums are rounded once to the weight's dtype; a sum of float32 numbers of opposite sign may differ from the trained
/// weight in the last bits of ΔP. Nothing is written unless everything fits.
/// @param weights  any range of (name, tensor); more tensors than the adapter's are left alone
/// @throws name_error   if a tensor of the adapter is missing
/// @throws shape_error, memory_error
/// @throws value_error  for tensors that contradict themselves: positions that are not ascending or not within the
/// tensor, deltas that are not finite or of another number or type; for an adapter that names one memory twice
/// @throws dtype_error, base_error  if the weights are not those that the adapter was trained on, unless forced
/// Complexity: one read of the adapter's tensors for their hash, then O(entries).
/// Extra memory: 12 bytes an entry, 20 in float64, 4 more in tensors of over 2^32 elements, as long as the result
/// lives. Example: tests/adapter/apply.cpp
template <TensorBackend Backend, NamedTensors Range>
[[nodiscard]] applied_adapter<Backend> apply(Backend const& backend, adapter const& a, Range&& weights,
                                             apply_options options = {}) {
  return {backend, a, views_of<tensor_view>(weights), options};
}

}  // namespace sara
