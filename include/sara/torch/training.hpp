// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sara/error.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/torch/gather_node.hpp>
#include <sara/torch/placement.hpp>
#include <sara/torch/tensor.hpp>
#include <sara/torch/tuner.hpp>

namespace sara::torch::detail {

/// What an optimizer shares with the graph nodes of its weights: the tuner, and who asks it for what.
///
/// One backward pass may run in several threads; everything here happens one after the other.
class training final : public gradient_taker {
 public:
  using maker = std::function<std::unique_ptr<any_tuner>(named_tensors const&)>;
  using selection_watcher = std::function<void(std::vector<tensor_summary> const&)>;

  /// @param weights        leaves that require gradients; several names may stand for one
  /// @param before_update  called before an update in the backward pass
  /// @param on_selection   called with the selection when that has started anew, see renew
  /// @throws value_error  for a tensor that another optimizer of this kind trains
  /// @throws what `make` throws
  [[nodiscard]] static std::shared_ptr<training> start(named_tensors weights, maker make,
                                                       std::function<void()> before_update,
                                                       selection_watcher on_selection) {
    auto out = std::shared_ptr<training>(new training{std::move(weights), std::move(make)});
    out->before_update_ = std::move(before_update);
    out->on_selection_ = std::move(on_selection);
    out->place(out);
    return out;
  }

  /// A function of any_tuner that reads no weights. Selection starts anew first where it may, see renew.
  template <class Function, class... Arguments>
  [[nodiscard]] auto ask(Function function, Arguments const&... arguments) {
    std::scoped_lock const lock{mutex_};
    renew();
    return std::invoke(function, std::as_const(*tuner_), arguments...);
  }

  /// A function of any_tuner that reads weights.
  /// @throws value_error  if they have moved since the first backward pass
  template <class Function>
  [[nodiscard]] auto read(Function function) {
    std::scoped_lock const lock{mutex_};
    follow();
    return std::invoke(function, std::as_const(*tuner_));
  }

  [[nodiscard]] bool learns(std::size_t i) override {
    std::scoped_lock const lock{mutex_};
    catch_up(i);
    return tuner_->learns(weights_[i].name);
  }

  void take(std::size_t i, at::Tensor const& gradient) override {
    std::scoped_lock const lock{mutex_};
    if (begin(i)) add(weights_[i].name, gradient);
  }

  void take_linear(std::size_t i, at::Tensor const& dy, at::Tensor const& x) override {
    std::scoped_lock const lock{mutex_};
    if (begin(i)) tuner_->accumulate_linear(weights_[i].name, dy, x);
  }

  void take_conv2d(std::size_t i, at::Tensor const& dy, at::Tensor const& x, conv2d_geometry const& geometry) override {
    std::scoped_lock const lock{mutex_};
    if (begin(i)) tuner_->accumulate_conv2d(weights_[i].name, dy, x, geometry);
  }

  void take_rows(std::size_t i, at::Tensor const& dy, at::Tensor const& index) override {
    std::scoped_lock const lock{mutex_};
    if (begin(i)) add_rows(weights_[i].name, dy, index);
  }

  void finish(std::size_t i) override {
    std::scoped_lock const lock{mutex_};
    auto const& w = weights_[i];
    if (!w.touched || w.shares_memory || !before_update_ || !tuner_->updates_in_backward()) return;
    at::NoGradGuard const no_grad;
    before_update_();
    tuner_->update_in_backward(w.name);
    updated_ = true;
    ::torch::autograd::impl::bump_version(w.tensor);
  }

  /// Calls back no more.
  void stop() {
    std::scoped_lock const lock{mutex_};
    before_update_ = nullptr;
    on_selection_ = nullptr;
  }

  /// Takes in what lies in `.grad`, from graphs that are older than the nodes or from the user's hand; then one step.
  void step() {
    std::scoped_lock const lock{mutex_};
    at::NoGradGuard const no_grad;
    follow();
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      auto& dense = weights_[i].tensor.mutable_grad();
      if (dense.defined() && begin(i)) add(weights_[i].name, dense);
      dense.reset();
    }
    freeze();
    tuner_->step();
    bool const all = tuner_->regularizes();
    for (auto& w : weights_) {
      if (w.touched || (all && tuner_->learns(w.name))) ::torch::autograd::impl::bump_version(w.tensor);
      w.touched = false;
    }
    pending_ = updated_ = false;
  }

  void zero_gradient() {
    std::scoped_lock const lock{mutex_};
    tuner_->zero_gradient();
    for (auto& w : weights_) {
      w.tensor.mutable_grad().reset();
      w.touched = false;
    }
    pending_ = updated_;
  }

  /// Goes on where a state was collected. The weights may be the base weights, or what had been learned by then.
  /// @throws what fine_tuner::load_state throws; then nothing has changed
  void load(safetensors const& file) {
    std::scoped_lock const lock{mutex_};
    at::NoGradGuard const no_grad;
    struct entries_of {
      at::Tensor weight, positions, values;
    };
    std::vector<entries_of> before;
    auto const put_back = [&] {
      for (auto b = before.rbegin(); b != before.rend(); ++b) b->weight.put_(b->positions, b->values);
    };
    try {
      for (auto const& w : weights_) {
        if (!file.contains(w.name + ".positions")) continue;  // a tied name, or one that load_state will miss
        auto positions = sara::detail::read_positions(file, w.name + ".positions", w.tensor.numel());
        auto const count = std::ssize(positions);
        auto const original = file.at(w.name + ".original").type == stored_name<double>
                                  ? tensor_of(file.read<double>(w.name + ".original", count)).to(w.tensor.options())
                                  : tensor_of(file.read<float>(w.name + ".original", count)).to(w.tensor.options());
        auto const index = tensor_of(positions).to(w.tensor.device());
        before.push_back({w.tensor, index, w.tensor.take(index)});
        w.tensor.put_(index, original);
      }
      auto fresh = make_(named_);
      fresh->load_state(file);
      tuner_ = std::move(fresh);
    } catch (...) {
      put_back();
      throw;
    }
    note_weights();
    place(self_);
    for (auto& w : weights_) w.touched = true;  // the state may have a gradient of any
    pending_ = true;
  }

 private:
  struct trained_weight {
    std::string name;
    at::Tensor tensor;
    placement where;
    std::int64_t version;  // of its elements when selection was
    std::shared_ptr<gather_node> node = nullptr;
    bool touched = false;        // has had a gradient since the last step
    bool shares_memory = false;  // with another of them, whose layers may still need it
  };

  training(named_tensors weights, maker make) : named_{std::move(weights)}, make_{std::move(make)} {
    for (auto const& [name, tensor] : named_) {
      if (std::any_of(weights_.begin(), weights_.end(),
                      [&t = tensor](auto const& other) { return other.tensor.is_same(t); }))
        continue;
      auto const other = gather_node::of(tensor);
      sara::detail::require<value_error>(
          other == nullptr || other->taker() == nullptr, "torch optimizer: '", name,
          "': expected a weight that no other sara optimizer trains, got one that is trained already");
      weights_.push_back({name, tensor, placement::of(tensor), tensor._version()});
    }
    note_weights();
    tuner_ = make_(named_);
  }

  /// Puts a node in the place of every weight's gradient accumulator.
  void place(std::weak_ptr<gradient_taker> const& self) {
    self_ = self;
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      weights_[i].node = std::make_shared<gather_node>(weights_[i].tensor, i, self);
      ::torch::autograd::impl::set_grad_accumulator(weights_[i].tensor, weights_[i].node);
    }
  }

  /// Before the first backward pass a model may be moved, converted, loaded or changed in place: then selection starts
  /// anew.
  void renew() {
    bool const is_new = tuner_->steps() == 0 && !pending_;
    if (!is_new || std::none_of(weights_.begin(), weights_.end(), [](auto const& w) {
          return placement::of(w.tensor) != w.where || w.tensor._version() != w.version;
        }))
      return;
    auto fresh = make_(named_);
    if (on_selection_) on_selection_(fresh->tensors());
    tuner_ = std::move(fresh);
    note_weights();
    place(self_);
  }

  /// Afterwards its weights must be where they were.
  static void require_in_place(trained_weight const& w) {
    auto const now = placement::of(w.tensor);
    sara::detail::require<value_error>(
        now == w.where, "torch optimizer: '", w.name, "' has other memory (", now,
        ") than when its optimizer was made (", w.where,
        "): expected model->to() before the first backward pass, or torch::load of the optimizer's state after it; "
        "got neither");
  }

  void follow() {
    renew();
    for (auto const& w : weights_) require_in_place(w);
  }

  void note_weights() {
    std::map<void const*, int> uses;
    for (auto& w : weights_) {
      w.where = placement::of(w.tensor);
      w.version = w.tensor._version();
      ++uses[w.where.data];
    }
    for (auto& w : weights_) w.shares_memory = uses[w.where.data] > 1;
  }

  /// What has happened to the weights since, before a gradient of one of them.
  void catch_up(std::size_t i) {
    renew();
    require_in_place(weights_[i]);
    tuner_->freeze(weights_[i].name, false);  // what gets a gradient is trained again
  }

  [[nodiscard]] bool begin(std::size_t i) {
    catch_up(i);
    if (!tuner_->learns(weights_[i].name)) return false;
    weights_[i].touched = pending_ = true;
    return true;
  }

  void add(std::string const& name, at::Tensor const& gradient) {
    at::NoGradGuard const no_grad;
    if (gradient.layout() == at::kSparse && gradient.sparse_dim() == 1 && gradient.dense_dim() == 1)
      add_rows(name, gradient._values(), gradient._indices()[0]);
    else if (gradient.layout() != at::kStrided)
      tuner_->accumulate(name, gradient.to_dense());
    else
      tuner_->accumulate(name, gradient.is_neg() ? gradient.resolve_neg() : gradient);
  }

  void add_rows(std::string const& name, at::Tensor const& dy, at::Tensor const& index) {
    auto const on_host = index.to(at::kCPU, at::kLong).contiguous();
    tuner_->accumulate_rows(name, dy,
                            std::span{on_host.data_ptr<std::int64_t>(), static_cast<std::size_t>(on_host.numel())});
  }

  /// Weights that are frozen now get no low-rank gradient either.
  void freeze() {
    std::map<void const*, bool> trained;  // tied weights: whether any of them is
    for (auto const& w : weights_) trained[w.where.data] |= w.tensor.requires_grad();
    for (auto const& w : weights_) tuner_->freeze(w.name, !trained[w.where.data]);
  }

  template <class T>
  [[nodiscard]] static at::Tensor tensor_of(std::vector<T> values) {
    return at::from_blob(values.data(), {std::ssize(values)}, at::dtype(c10::CppTypeToScalarType<T>::value)).clone();
  }

  mutable std::mutex mutex_;
  named_tensors named_;
  maker make_;
  std::function<void()> before_update_;
  selection_watcher on_selection_;
  std::weak_ptr<gradient_taker> self_;
  std::vector<trained_weight> weights_;  // each tensor once
  std::unique_ptr<any_tuner> tuner_;
  bool pending_ = false;  // a gradient since the last step
  bool updated_ = false;  // an update in the backward pass since then
};

}  // namespace sara::torch::detail
