// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/host_device.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../../layers/condition.hpp"
#include "../../parameter.hpp"
#include "../planes.hpp"
#include "elementwise.hpp"
#include "linear.hpp"

namespace unet {

namespace detail {

/// Rows of a table that each picture names: those of picture n are entries[first[n]] … entries[first[n + 1] - 1].
struct named_rows {
  std::int32_t const* first;
  std::int32_t const* entries;
};

/// sum[n] += mean of the table's rows that picture n names.
template <class Real>
struct add_rows {
  named_rows rows;
  Real const* table;
  Real* sum;
  std::int64_t width;
  SARA_HOST_DEVICE void operator()(std::int64_t n, std::int32_t column) const {
    auto const begin = rows.first[n], end = rows.first[n + 1];
    if (begin == end) return;
    auto const share = 1 / static_cast<Real>(end - begin);
    auto value = sum[n * width + column];
    for (auto i = begin; i < end; ++i) value += share * table[rows.entries[i] * width + column];
    sum[n * width + column] = value;
  }
};

/// The gradient of the table: each of its rows looks for the pictures that name it.
template <class Real>
struct table_gradient {
  named_rows rows;
  std::int64_t batch;
  Real const* dsum;
  Real* to;
  std::int64_t width;
  SARA_HOST_DEVICE void operator()(std::int64_t row, std::int32_t column) const {
    Real value{0};
    for (std::int64_t n = 0; n < batch; ++n)
      for (auto i = rows.first[n]; i < rows.first[n + 1]; ++i)
        if (rows.entries[i] == row)
          value += 1 / static_cast<Real>(rows.first[n + 1] - rows.first[n]) * dsum[n * width + column];
    to[row * width + column] = value;
  }
};

}  // namespace detail

/// The conditioning of the network on a device: see the host's `embedding`.
template <executor Executor>
class device_embedding {
  using real = typename Executor::real;
  using context = device_context<Executor>;
  using matrix = matrix_view<real>;

 public:
  /// @param classes  the class for "any" included
  device_embedding(std::int64_t width, std::int64_t classes, std::int64_t words)
      : width_{width},
        time1_{"time.linear1", width, width},
        time2_{"time.linear2", width, width},
        class_{"class.weight", {classes, width}},
        word_{"word.weight", {words, width}} {}

  /// @param times       [batch], in [0, 1], on the host
  /// @param conditions  [batch], on the host
  /// @return  silu(e), [batch, width]
  matrix_view<real const> forward(context const& run, std::span<real const> times,
                                  std::span<condition const> conditions) {
    require_conditions(times.size(), conditions, class_.shape[0], word_.shape[0]);
    batch_ = static_cast<std::int64_t>(times.size());
    waves_on_host_.resize(times.size() * static_cast<std::size_t>(width_));
    write_waves<real>(times, waves_on_host_);
    auto const waves = waves_.take(run, batch_, width_), hidden = hidden_.take(run, batch_, width_),
               active = active_.take(run, batch_, width_), sum = sum_.take(run, batch_, width_),
               out = out_.take(run, batch_, width_);
    run.machine.upload(std::span<real const>{waves_on_host_}, waves.data);
    upload(run, conditions);
    time1_.forward(run, waves, hidden);
    run.machine.launch(batch_, width_, detail::activate<real>{hidden.data, active.data, width_});
    time2_.forward(run, active, sum);
    run.machine.launch(batch_, width_, detail::add_rows<real>{classes_, class_.data(), sum.data, width_});
    run.machine.launch(batch_, width_, detail::add_rows<real>{words_, word_.data(), sum.data, width_});
    run.machine.launch(batch_, width_, detail::activate<real>{sum.data, out.data, width_});
    return out;
  }

  /// The gradient of silu(e), zero at first, for the blocks to add to.
  matrix gradient(context const& run) {
    auto const d = gradient_.take(run, batch_, width_);
    run.machine.launch(batch_, width_, detail::fill_zero<real>{d.data, width_});
    return d;
  }

  /// Takes what has been added to `gradient()` to the parameters.
  template <class Sink>
  void backward(context const& run, Sink& sink) {
    auto const d = gradient_.view(), dactive = out_.view();
    run.machine.launch(batch_, width_, detail::activate_backward<real>{sum_.view().data, d.data, width_});
    hand_over(run, class_, classes_, sink);
    hand_over(run, word_, words_, sink);
    time2_.backward_weight(run, d, active_.view(), sink);
    time2_.backward_input(run, d, dactive);
    run.machine.launch(batch_, width_, detail::activate_backward<real>{hidden_.view().data, dactive.data, width_});
    time1_.backward_weight(run, dactive, waves_.view(), sink);
  }

  template <class F>
  void each_parameter(F&& f) {
    time1_.each_parameter(f);
    time2_.each_parameter(f);
    f(class_);
    f(word_);
  }

 private:
  /// Puts on the device which rows of the tables the pictures name: for classes 0 … n and the labels, for words the
  /// places where a picture's begin and the tokens.
  void upload(context const& run, std::span<condition const> conditions) {
    auto const n = conditions.size();
    names_on_host_.clear();
    for (std::size_t i = 0; i <= n; ++i) names_on_host_.push_back(static_cast<std::int32_t>(i));
    for (auto const& c : conditions) names_on_host_.push_back(c.label);
    std::int32_t begin = 0;
    for (auto const& c : conditions) {
      names_on_host_.push_back(begin);
      begin += static_cast<std::int32_t>(c.tokens.size());
    }
    names_on_host_.push_back(begin);
    for (auto const& c : conditions) names_on_host_.insert(names_on_host_.end(), c.tokens.begin(), c.tokens.end());
    names_.reset();
    names_ = run.memory.template take_elements<std::int32_t>(static_cast<std::int64_t>(names_on_host_.size()));
    auto* const at = names_.template as<std::int32_t>();
    run.machine.upload(std::span<std::int32_t const>{names_on_host_}, at);
    classes_ = {at, at + n + 1};
    words_ = {at + 2 * n + 1, at + 3 * n + 2};
  }

  template <class Sink>
  void hand_over(context const& run, device_parameter<real> const& table, detail::named_rows const& rows, Sink& sink) {
    if (!sink.wants(table)) return;
    auto const memory = run.memory.template take_elements<real>(table.size());
    auto* const to = memory.template as<real>();
    run.machine.launch(table.shape[0], width_,
                       detail::table_gradient<real>{rows, batch_, gradient_.view().data, to, width_});
    sink.dense(table, std::span<real const>{to, static_cast<std::size_t>(table.size())});
  }

  std::int64_t width_;
  std::int64_t batch_ = 0;
  device_linear<Executor> time1_;
  device_linear<Executor> time2_;
  device_parameter<real> class_;
  device_parameter<real> word_;
  std::vector<real> waves_on_host_;
  std::vector<std::int32_t> names_on_host_;
  typename plane_memory<Executor>::block names_;
  detail::named_rows classes_{};
  detail::named_rows words_{};
  device_matrix<Executor> waves_;  // each of these: [batch, width]
  device_matrix<Executor> hidden_;
  device_matrix<Executor> active_;
  device_matrix<Executor> sum_;
  device_matrix<Executor> out_;
  device_matrix<Executor> gradient_;
};

}  // namespace unet
