// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataset.hpp"
#include "diffusion.hpp"
#include "finetune_settings.hpp"
#include "layers/condition.hpp"

namespace sara {
class host;
}

namespace unet {

/// Which machine computes the network, and in which precision.
struct device_choice {
  std::string device = "host";        ///< or "cuda"
  std::string precision = "float32";  ///< or "bfloat16", on cuda: factors of convolutions are rounded to it
};

/// A network on the machine that computes it: what the commands ask of it.
class engine {
 public:
  engine() = default;
  engine(engine const&) = delete;
  engine& operator=(engine const&) = delete;
  virtual ~engine() = default;

  /// The v-prediction loss of each picture.
  [[nodiscard]] virtual std::vector<double> losses(noisy_batch<float> const& batch) = 0;
  /// Draws pictures: see `unet::sample`.
  [[nodiscard]] virtual std::vector<float> sample(std::span<condition const> conditions,
                                                  std::span<std::uint64_t const> seeds, sampling const& how) = 0;
  /// Teaches it pictures: see `unet::tune`. Afterwards the model on the host has the same weights.
  [[nodiscard]] virtual finetune_result fine_tune(dataset const& data, finetune_settings const& how,
                                                  finetune_control const& control) = 0;
  /// "the host, 2 threads"
  [[nodiscard]] virtual std::string name() const = 0;
};

/// @param backend  the host's threads, which serve every engine
/// @param net      the weights to begin with; it and the backend must outlive the engine. While the engine lives, only
///                 it changes them
/// @throws std::invalid_argument  for another device or precision than those above
/// @throws std::runtime_error     for cuda in a build without it
/// @throws sara::error            for cuda where there is no device
[[nodiscard]] std::unique_ptr<engine> make_engine(device_choice const& choice, sara::host const& backend,
                                                  basic_model<host_layers<float>>& net);

}  // namespace unet
