// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/error.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

/// The only door for a framework's tensor type. A specialisation provides
///
///     static tensor_view view(T& tensor);              // or const_tensor_view for what may only be read
///     using scalar = float;                            // optional: the element type where it is known statically
///
/// Opt-in headers: sara/tensor/eigen.hpp, span.hpp, vector.hpp. An autograd framework returns the pointer, sizes,
/// strides, dtype and device of its tensor, and leaves `scalar` out; a CUDA tensor says memory::cuda.
template <class T>
struct tensor_traits;

template <class Byte>
struct tensor_traits<basic_tensor_view<Byte>> {
  static basic_tensor_view<Byte> view(basic_tensor_view<Byte> const& tensor) { return tensor; }
};

/// What can be read as a tensor.
template <class T>
concept ReadableTensor = requires(T& tensor) {
  { tensor_traits<std::remove_cvref_t<T>>::view(tensor) } -> std::convertible_to<const_tensor_view>;
};

/// What can be trained: a tensor whose elements may be written.
template <class T>
concept WritableTensor = ReadableTensor<T> && requires(T& tensor) {
  { tensor_traits<std::remove_cvref_t<T>>::view(tensor) } -> std::convertible_to<tensor_view>;
};

/// A view of any tensor; the tensor must outlive it.
template <class T>
[[nodiscard]] auto view(T&& tensor) {
  static_assert(ReadableTensor<T>,
                "sara: this type is not a tensor. Specialise sara::tensor_traits<T> with "
                "'static sara::tensor_view view(T&)', or include sara/tensor/eigen.hpp, span.hpp or vector.hpp.");
  return tensor_traits<std::remove_cvref_t<T>>::view(tensor);
}

/// A tensor of known memory behind a raw pointer, dense row-major.
template <class T>
requires Scalar<std::remove_const_t<T>>
[[nodiscard]] auto view(T* data, extents const& shape, memory where = memory::host) {
  using byte = std::conditional_t<std::is_const_v<T>, std::byte const, std::byte>;
  return basic_tensor_view<byte>{data, shape, where};
}

/// A tensor with its name in the model: "mid.attention.qkv.weight".
template <class View>
struct basic_named_tensor {
  std::string name;
  View tensor;
};
using named_tensor = basic_named_tensor<tensor_view>;
using const_named_tensor = basic_named_tensor<const_tensor_view>;

namespace detail {

/// Whether two tensors are over one memory, as tied weights are.
[[nodiscard]] inline bool share_memory(const_tensor_view const& a, const_tensor_view const& b) {
  return a.bytes() == b.bytes() && a.size() > 0;
}

template <class T, class = void>
struct scalar_of {
  using type = void;  // known at run time only
};
template <class T>
struct scalar_of<T, std::void_t<typename tensor_traits<std::remove_cvref_t<T>>::scalar>> {
  using type = typename tensor_traits<std::remove_cvref_t<T>>::scalar;
};

template <class Named>
concept NamedByMember = requires(Named& named) {
  named.name;
  named.tensor;
};
template <class Named>
concept NamedByTuple = requires(Named& named) {
  std::get<0>(named);
  std::get<1>(named);
};

/// The tensor of a (name, tensor) pair, or of a named_tensor.
template <class Named>
requires(NamedByMember<Named> || NamedByTuple<Named>) decltype(auto) tensor_of(Named& named) {
  if constexpr (NamedByMember<Named>)
    return (named.tensor);
  else
    return std::get<1>(named);
}
template <class Named>
requires(NamedByMember<Named> || NamedByTuple<Named>) decltype(auto) name_of_pair(Named& named) {
  if constexpr (NamedByMember<Named>)
    return (named.name);
  else
    return std::get<0>(named);
}

template <class Range>
using range_tensor = std::remove_reference_t<decltype(tensor_of(*std::begin(std::declval<Range&>())))>;

}  // namespace detail

/// A range of (name, tensor): pairs, tuples, or objects with members `name` and `tensor`.
template <class Range>
concept NamedTensors = requires(Range& range) {
  std::begin(range);
  std::end(range);
  {std::string(detail::name_of_pair(*std::begin(range)))};
  requires ReadableTensor<decltype(detail::tensor_of(*std::begin(range)))>;
};

/// The element type of a range's tensors where the type tells it (Eigen, std::vector, std::span), else void.
template <NamedTensors Range>
using range_scalar = typename detail::scalar_of<detail::range_tensor<Range>>::type;

/// Views of all tensors of a range, in its order.
/// @throws name_error  if one name stands for two tensors
template <class View, NamedTensors Range>
[[nodiscard]] std::vector<basic_named_tensor<View>> views_of(Range&& range) {
  static_assert(std::same_as<View, const_tensor_view> || WritableTensor<detail::range_tensor<Range>>,
                "sara: these tensors may only be read, but are to be written. Expected a range whose tensors are not "
                "const, or have a view that is a sara::tensor_view.");
  std::vector<basic_named_tensor<View>> out;
  for (auto&& item : range) {
    out.push_back({std::string(detail::name_of_pair(item)), view(detail::tensor_of(item))});
    for (std::size_t i = 0; i + 1 < out.size(); ++i)
      detail::require<name_error>(out[i].name != out.back().name, "tensors: expected each name once, got '",
                                  out.back().name, "' twice");
  }
  return out;
}

}  // namespace sara
