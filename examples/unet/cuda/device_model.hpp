// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "../network.hpp"
#include "../strips.hpp"
#include "device_layers.hpp"

namespace unet {

/// The network on a device, with all its weights in one piece of memory there.
template <executor Executor>
class device_model {
  using real = typename Executor::real;
  using storage = decltype(std::declval<Executor const&>().template allocate<real>(1));

 public:
  /// The weights are undefined until they are written. The pool must outlive the model.
  device_model(Executor machine, sara::thread_pool& pool, model_shape const& shape)
      : machine_{std::move(machine), pool},
        network_{machine_, shape},
        weights_{machine_.machine.template allocate<real>(room())} {
    real* next = weights_.data();
    for (auto* p : network_.parameters()) {
      p->values = next;
      next += round_up(p->size(), alignment);
    }
  }

  [[nodiscard]] basic_model<device_layers<Executor>>& network() { return network_; }

  /// Copies values from or to the host, where they lie parameter by parameter in the same order.
  /// @param values  values(i) is the span of those of parameter i
  /// @throws std::invalid_argument  if one has another size
  template <class Values>
  void write(Values&& values) {
    each(values,
         [this](std::span<real> host, real* device) { machine_.machine.upload(std::span<real const>{host}, device); });
  }
  template <class Values>
  void read(Values&& values) const {
    each(values, [this](std::span<real> host, real* device) {
      machine_.machine.download(static_cast<real const*>(device), host);
    });
  }

 private:
  static constexpr std::int64_t alignment = 64;  // elements: every tensor begins where wide accesses may

  [[nodiscard]] std::int64_t room() const {
    std::int64_t count = 0;
    for (auto const* p : network_.parameters()) count += round_up(p->size(), alignment);
    return count;
  }

  template <class Values, class F>
  void each(Values&& values, F&& f) const {
    for (auto* p : network_.parameters()) {
      std::span<real> const host = values(p->index);
      if (static_cast<std::int64_t>(host.size()) != p->size())
        throw std::invalid_argument{p->name + ": expected " + std::to_string(p->size()) + " weights, got " +
                                    std::to_string(host.size())};
      if (!host.empty()) f(host, p->values);
    }
  }

  device_machine<Executor> machine_;
  basic_model<device_layers<Executor>> network_;
  storage weights_;
};

}  // namespace unet
