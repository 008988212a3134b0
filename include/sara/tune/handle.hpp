// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include <sara/backend/convolution.hpp>
#include <sara/backprop/conv2d.hpp>
#include <sara/backprop/embedding.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/linear.hpp>
#include <sara/error.hpp>
#include <sara/tensor/traits.hpp>
#include <sara/tune/segment.hpp>

namespace sara {

/// One tensor of a fine_tuner, for the layer that owns it: takes what its backward pass has at hand and adds to the
/// compact gradient. Sums go on until the tuner's next step, over as many backward passes as there are; a tensor that
/// was updated in the backward pass takes no more until then, and says so by a value_error.
///
/// A cheap value. It ends with the tuner, and when the tuner is moved, reselects or loads a state: then ask for a new
/// one. The handle of a tensor that does not learn ignores everything it is given. Handles of different tensors may be
/// used from different threads, if the backend may.
template <class Backend, class Segment, Real R>
class tensor_handle {
 public:
  tensor_handle(Backend const& backend, Segment* segment, R* gradient)
      : backend_{&backend}, segment_{segment}, gradient_{gradient} {}

  /// Whether any entry learns: if not, a layer need not compute this gradient at all.
  [[nodiscard]] bool learns() const { return segment_ != nullptr && !segment_->frozen && segment_->count() > 0; }

  /// A Linear layer's weight [out, in]: dY [..., out], X [..., in]. See accumulate_linear.
  template <ReadableTensor Dy, ReadableTensor X>
  void accumulate(Dy const& dy, X const& x) {
    add([&](auto store) {
      accumulate_linear(*backend_, view(dy), view(x), store, segment_->sampling(*backend_), gradient_);
    });
  }

  /// A convolution's weight [out, in / groups, kh, kw]: dY and X in NCHW. See accumulate_conv2d.
  template <ReadableTensor Dy, ReadableTensor X>
  void accumulate(Dy const& dy, X const& x, conv2d_geometry const& geometry) {
    add([&](auto store) {
      accumulate_conv2d(*backend_, segment_->weights.shape(), view(dy), view(x), geometry, store,
                        segment_->sampling(*backend_), gradient_);
    });
  }

  /// Any weight, from its dense gradient, which may be freed afterwards. See sara::accumulate.
  template <ReadableTensor Dw>
  void accumulate(Dw const& dw) {
    add([&](auto store) { sara::accumulate(*backend_, view(dw), store, gradient_); });
  }

  /// A Linear layer's bias [out]: dY [..., out]. See accumulate_linear_bias.
  template <ReadableTensor Dy>
  void accumulate_bias(Dy const& dy) {
    add([&](auto store) { accumulate_linear_bias(*backend_, view(dy), store, gradient_); });
  }

  /// A convolution's bias [out]: dY in NCHW. See sara::accumulate_conv2d_bias.
  template <ReadableTensor Dy>
  void accumulate_conv2d_bias(Dy const& dy) {
    add([&](auto store) { sara::accumulate_conv2d_bias(*backend_, view(dy), store, gradient_); });
  }

  /// An embedding table [rows, width]: dY [..., width] and the row of each. See sara::accumulate_embedding.
  template <ReadableTensor Dy>
  void accumulate_embedding(Dy const& dy, std::span<std::int64_t const> index) {
    add([&](auto store) { sara::accumulate_embedding(*backend_, view(dy), index, store, gradient_); });
  }

  /// Says that a gradient comes without a call of `accumulate`: in a replayed CUDA graph, say. The next step moves the
  /// tensor, as after `accumulate`.
  void expect_gradient() {
    add([](auto) {});
  }

 private:
  /// f(positions), which adds to the gradient; its errors say which tensor it was.
  template <class F>
  void add(F&& f) {
    if (!learns()) return;
    detail::require<value_error>(
        segment_->phase != detail::step_phase::updated, "fine_tuner: '", segment_->name,
        "' was updated in this backward pass: expected step() before its next gradient, got one");
    auto const named = [&](error const& e) { return detail::text("'", segment_->name, "': ", e.what()); };
    try {
      f(segment_->store().ref());
    } catch (shape_error const& e) {
      throw shape_error(named(e));
    } catch (memory_error const& e) {
      throw memory_error(named(e));
    } catch (dtype_error const& e) {
      throw dtype_error(named(e));
    } catch (value_error const& e) {
      throw value_error(named(e));
    }
    segment_->phase = detail::step_phase::has_gradient;
  }

  Backend const* backend_;
  Segment* segment_;  // null: does not learn
  R* gradient_;
};

}  // namespace sara
