// SPDX-License-Identifier: Apache-2.0
#include "engine.hpp"

#include <sara/backend/host.hpp>

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/engine.hpp"
#include "finetune.hpp"
#include "model.hpp"

namespace unet {
namespace {

/// The model itself, by the host's threads.
class host_engine : public engine {
 public:
  host_engine(sara::host backend, model<float>& net) : backend_{std::move(backend)}, net_{net}, loss_{net} {}

  std::vector<double> losses(noisy_batch<float> const& batch) override {
    auto const each = loss_.evaluate(batch, image_side);
    return {each.begin(), each.end()};
  }
  std::vector<float> sample(std::span<condition const> conditions, std::span<std::uint64_t const> seeds,
                            sampling const& how) override {
    return unet::sample(net_, conditions, seeds, how);
  }
  finetune_result fine_tune(dataset const& data, finetune_settings const& how,
                            finetune_control const& control) override {
    return unet::fine_tune(backend_, net_, data, how, control);
  }
  std::string name() const override { return "the host, " + std::to_string(backend_.threads().size()) + " threads"; }

 private:
  sara::host backend_;
  model<float>& net_;
  velocity_loss<float> loss_;
};

}  // namespace

std::unique_ptr<engine> make_engine(device_choice const& choice, sara::host const& backend, model<float>& net) {
  auto const& [device, precision] = choice;
  if (precision != "float32" && precision != "bfloat16")
    throw std::invalid_argument{"expected the precision float32 or bfloat16, got '" + precision + "'"};
  if (device == "cuda") {
    std::vector<host_weight> weights;
    for (auto* p : net.parameters()) weights.push_back({p->name, p->values});
    return make_cuda_engine(net.shape(), std::move(weights), backend.threads(), precision == "bfloat16");
  }
  if (device != "host") throw std::invalid_argument{"expected the device host or cuda, got '" + device + "'"};
  if (precision != "float32")
    throw std::invalid_argument{"expected the precision float32 on the host, got '" + precision + "'"};
  return std::make_unique<host_engine>(backend, net);
}

}  // namespace unet
