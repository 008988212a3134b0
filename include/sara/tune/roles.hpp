// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#include <sara/regularize/concept.hpp>
#include <sara/schedule/concept.hpp>
#include <sara/select/concept.hpp>
#include <sara/select/names.hpp>
#include <sara/store/concept.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/traits.hpp>
#include <sara/update/clip.hpp>
#include <sara/update/concept.hpp>
#include <sara/update/in_backward.hpp>

namespace sara {

/// Passes the type that a fine_tuner computes in, where the tensors' type does not tell it:
/// `sara::compute_in<double>{}`.
template <Real R>
struct compute_in {
  using type = R;
};

namespace detail {

template <class P>
struct is_compute_in : std::false_type {};
template <class R>
struct is_compute_in<compute_in<R>> : std::true_type {};

/// The roles that an argument of fine_tuner can play with any backend. Each is a template so that it can be passed to
/// pick.
struct policy_roles {
  template <class P>
  struct selector : std::bool_constant<ThresholdSelector<P>> {};
  template <class P>
  struct scheduler : std::bool_constant<ProgressiveScheduler<P>> {};
  template <class P>
  struct update : std::bool_constant<UpdateRule<P>> {};
  template <class P>
  struct rate : std::bool_constant<RateSchedule<P>> {};
  template <class P>
  struct store : std::false_type {};
  template <template <class> class Store>
  struct store<store_as<Store>> : std::true_type {};
  template <class P>
  struct real : is_compute_in<P> {};
  template <class P>
  struct filter : std::is_same<P, names> {};
  template <class P>
  struct clip : std::is_same<P, clip_norm> {};
  template <class P>
  struct in_backward : std::is_same<P, update_in_backward> {};

  template <class P>
  static constexpr int count_of =
      selector<P>::value + scheduler<P>::value + update<P>::value + rate<P>::value + store<P>::value + real<P>::value +
      filter<P>::value + clip<P>::value + in_backward<P>::value;
};

/// All roles.
template <class Backend>
struct roles : policy_roles {
  template <class P>
  struct regularizer : std::bool_constant<LowRankRegularizer<P, Backend>> {};

  template <class P>
  static constexpr int count_of = policy_roles::count_of<P> + regularizer<P>::value;
};

/// A tuple of the value, or an empty one.
template <bool Keep, class T>
[[nodiscard]] constexpr auto tuple_if(T const& value) {
  if constexpr (Keep)
    return std::tuple{value};
  else
    return std::tuple<>{};
}

/// The argument that plays a role, or the default.
template <template <class> class Role, class Default, class... Policies>
[[nodiscard]] constexpr auto pick(Default fallback, Policies const&... policies) {
  static_assert((0 + ... + int{Role<Policies>::value}) <= 1,
                "sara::fine_tuner: two arguments play the same role. Expected at most one of each: ThresholdSelector, "
                "LowRankRegularizer, ProgressiveScheduler, UpdateRule, RateSchedule, store_as, names, clip_norm, "
                "compute_in, update_in_backward.");
  auto const found = std::tuple_cat(tuple_if<Role<Policies>::value>(policies)...);
  if constexpr (std::tuple_size_v<decltype(found)> == 1)
    return std::get<0>(found);
  else
    return fallback;
}

template <template <class> class Role, class Default, class... Policies>
using picked = decltype(pick<Role>(std::declval<Default>(), std::declval<Policies const&>()...));

/// The type that a fine_tuner computes in: that of a compute_in, or double for tensors that are known to be float64,
/// else float.
template <class Range, class... Policies>
struct computed_real {
  using fallback = compute_in<std::conditional_t<std::is_same_v<range_scalar<Range>, double>, double, float>>;
  using type = typename picked<is_compute_in, fallback, Policies...>::type;
};

}  // namespace detail
}  // namespace sara
