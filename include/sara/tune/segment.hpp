// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// What is known of one tensor of a fine_tuner.
struct tensor_summary {
  std::string name;
  extents shape;
  dtype type = dtype::float32;
  std::int64_t selected = 0;        ///< entries of M as first selected: those an adapter holds
  std::int64_t learning = 0;        ///< entries that still learn, after reselections
  std::int64_t not_finite = 0;      ///< NaN and infinite weights, never selected
  std::optional<double> threshold;  ///< the θ with |w| < θ at selection, where it was by magnitude
};

/// Bytes that a fine_tuner holds beside the model, between steps.
struct memory_summary {
  std::int64_t positions = 0;  ///< stores, in the backend's memory
  std::int64_t plans = 0;      ///< of sampled products, once each layer has asked for its first
  std::int64_t columns = 0;    ///< gradients, moments and masters, in the backend's memory
  std::int64_t originals = 0;  ///< values before training, in host memory
  [[nodiscard]] std::int64_t total() const noexcept { return positions + plans + columns + originals; }
};

namespace detail {

/// How far a tensor is in the step to come.
enum class step_phase : std::uint8_t { untouched, has_gradient, updated };

/// One tensor that learns: its positions, and its part of the arena's columns.
template <class Backend, class Store, Real R>
struct segment {
  std::string name;
  tensor_view weights;
  Store selected;                        // M as first selected
  std::optional<Store> reselected = {};  // what reselection left of it
  std::optional<double> threshold = {};
  std::int64_t not_finite = 0;
  std::uint64_t base_hash = 0;
  std::vector<R> original = {};                                   // [selected], host memory
  std::int64_t first = 0;                                         // slot in the arena's columns
  std::int64_t t = 0;                                             // steps since its moments started
  step_phase phase = step_phase::untouched;                       // since the last step
  std::optional<typename Backend::template buffer<R>> lent = {};  // gradient, where the arena has no column of them
  bool frozen = false;                                            // takes no gradient for now
  std::optional<typename Backend::sampling_plan> plan = {};       // of store(), from the first sampled product on

  [[nodiscard]] Store const& store() const { return reselected ? *reselected : selected; }
  [[nodiscard]] std::int64_t count() const { return store().count(); }
  [[nodiscard]] typename Backend::sampling_plan const& sampling(Backend const& backend) {
    if (!plan) plan = backend.plan_sampling(store().ref());
    return *plan;
  }
  /// Whether values are kept in R beside the weights, which are of another dtype.
  [[nodiscard]] bool has_master() const { return weights.type() != dtype_of<R>; }
};

}  // namespace detail
}  // namespace sara
