// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace sara {

/// Every tensor is updated in the middle of the backward pass, by fine_tuner::update_in_backward, or by
/// sara::torch::optimizer of its own accord: an argument of both. A tensor's gradient then has memory from its first
/// sum to its update only, and what is held beside the model is as a rule that of the largest tensor, instead of all.
///
/// No clip_norm, whose norm is over all tensors; one backward pass a step; handles are for one thread at a time; and a
/// step cannot be left out once its gradients are seen to be not finite.
struct update_in_backward {
  bool enabled = true;
};

}  // namespace sara
