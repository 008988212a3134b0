// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <sara/backend/convolution.hpp>
#include <sara/backprop/conv2d.hpp>
#include <sara/backprop/embedding.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/linear.hpp>
#include <sara/error.hpp>
#include <sara/tensor/traits.hpp>
#include <sara/tune/arena.hpp>
#include <sara/tune/segment.hpp>

namespace sara {

/// One tensor of a fine_tuner, for the layer that owns it: takes what its backward pass has at hand and adds to the
/// compact gradient. Sums go on until the tuner's next step, over as many backward passes as there are; a tensor that
/// was updated in the backward pass takes no more until then, and says so by a value_error.
///
/// A cheap value, valid over reselections and loaded states. It ends with the tuner, and when the tuner is moved: then
/// ask for a new one. The handle of a tensor that does not learn ignores everything it is given. Handles of different
/// tensors may be used from different threads, if the backend may, but not of a tuner with update_in_backward.
template <class Backend, class Segment, Real R>
class tensor_handle {
 public:
  /// @param at  the segment's number, or none for a tensor that does not learn
  tensor_handle(Backend const& backend, std::vector<Segment>& segments, detail::arena<Backend, R>& columns,
                std::optional<std::size_t> at)
      : backend_{&backend}, segments_{&segments}, columns_{&columns}, at_{at} {}

  /// Whether any entry learns: if not, a layer need not compute this gradient at all.
  [[nodiscard]] bool learns() const { return at_ && !segment().frozen && segment().count() > 0; }

  /// A Linear layer's weight [out, in]: dY [..., out], X [..., in]. See accumulate_linear.
  template <ReadableTensor Dy, ReadableTensor X>
  void accumulate(Dy&& dy, X&& x) {
    add([&](auto& s, R* gradient) {
      accumulate_linear(*backend_, view(dy), view(x), s.store().ref(), s.sampling(*backend_), gradient);
    });
  }

  /// A convolution's weight [out, in / groups, kh, kw]: dY and X in NCHW. See accumulate_conv2d.
  template <ReadableTensor Dy, ReadableTensor X>
  void accumulate(Dy&& dy, X&& x, conv2d_geometry const& geometry) {
    add([&](auto& s, R* gradient) {
      accumulate_conv2d(*backend_, s.weights.shape(), view(dy), view(x), geometry, s.store().ref(),
                        s.sampling(*backend_), gradient);
    });
  }

  /// Any weight, from its dense gradient, which may be freed afterwards: of the weight's extents, or of its matrix's,
  /// or in one dimension. See sara::accumulate.
  template <ReadableTensor Dw>
  void accumulate(Dw&& dw) {
    add([&](auto& s, R* gradient) {
      const_tensor_view const dense = view(dw);
      auto const &expected = s.weights.shape(), &got = dense.shape();
      detail::require<shape_error>(expected.rank() <= 2 || got.rank() <= 2 || got == expected,
                                   "accumulate(dW): expected extents ", expected, ", got ", got);
      sara::accumulate(*backend_, dense, s.store().ref(), gradient);
    });
  }

  /// A Linear layer's bias [out]: dY [..., out]. See accumulate_linear_bias.
  template <ReadableTensor Dy>
  void accumulate_bias(Dy&& dy) {
    add([&](auto& s, R* gradient) { accumulate_linear_bias(*backend_, view(dy), s.store().ref(), gradient); });
  }

  /// A convolution's bias [out]: dY in NCHW. See sara::accumulate_conv2d_bias.
  template <ReadableTensor Dy>
  void accumulate_conv2d_bias(Dy&& dy) {
    add([&](auto& s, R* gradient) { sara::accumulate_conv2d_bias(*backend_, view(dy), s.store().ref(), gradient); });
  }

  /// An embedding table [rows, width]: dY [..., width] and the row of each. See sara::accumulate_embedding.
  template <ReadableTensor Dy>
  void accumulate_embedding(Dy&& dy, std::span<std::int64_t const> index) {
    add([&](auto& s, R* gradient) {
      sara::accumulate_embedding(*backend_, view(dy), index, s.store().ref(), gradient);
    });
  }

  /// Says that a gradient comes without a call of `accumulate`: in a replayed CUDA graph, say. The next step moves the
  /// tensor, as after `accumulate`.
  /// @throws value_error  for a tuner with update_in_backward, whose gradients have no place of their own
  void expect_gradient() {
    detail::require<value_error>(!columns_->lends_gradients(),
                                 "expect_gradient: expected a tuner without update_in_backward, got one with it");
    add([](auto&, R*) {});
  }

 private:
  [[nodiscard]] Segment& segment() const { return (*segments_)[*at_]; }

  /// f(segment, its gradient), which adds to it; errors say which tensor it was.
  template <class F>
  void add(F&& f) {
    if (!learns()) return;
    auto& s = segment();
    detail::require<value_error>(
        s.phase != detail::step_phase::updated, "fine_tuner: '", s.name,
        "' was updated in this backward pass: expected step() before its next gradient, got one");
    auto const named = [&](error const& e) { return detail::text("'", s.name, "': ", e.what()); };
    try {
      f(s, columns_->gradient_of(*backend_, s));
    } catch (shape_error const& e) {
      throw shape_error(named(e));
    } catch (memory_error const& e) {
      throw memory_error(named(e));
    } catch (dtype_error const& e) {
      throw dtype_error(named(e));
    } catch (value_error const& e) {
      throw value_error(named(e));
    }
    s.phase = detail::step_phase::has_gradient;
  }

  Backend const* backend_;
  std::vector<Segment>* segments_;
  detail::arena<Backend, R>* columns_;
  std::optional<std::size_t> at_;
};

}  // namespace sara
