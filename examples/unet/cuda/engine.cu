// SPDX-License-Identifier: Apache-2.0
#include "engine.hpp"

#include <cuda_runtime_api.h>

#include <sara/cuda.cuh>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../diffusion.hpp"
#include "../tuning.hpp"
#include "cuda_executor.cuh"
#include "device_model.hpp"

namespace unet {
namespace {

/// A device model, and the host's weights that it began with and brings up to date.
class cuda_engine : public engine {
  using layers = device_layers<cuda_executor>;

 public:
  cuda_engine(sara::cuda::device device, model_shape const& shape, std::vector<host_weight> weights,
              sara::thread_pool& pool, bool narrow)
      : device_{std::move(device)},
        narrow_{narrow},
        weights_{std::move(weights)},
        model_{cuda_executor{device_, narrow}, pool, shape},
        loss_{model_.network()} {
    model_.write([this](std::size_t i) { return weights_[i].values; });
  }

  std::vector<double> losses(noisy_batch<float> const& batch) override {
    auto const each = loss_.evaluate(batch, image_side);
    return {each.begin(), each.end()};
  }
  std::vector<float> sample(std::span<condition const> conditions, std::span<std::uint64_t const> seeds,
                            sampling const& how) override {
    return unet::sample(model_.network(), conditions, seeds, how);
  }
  finetune_result fine_tune(dataset const& data, finetune_settings const& how,
                            finetune_control const& control) override {
    auto result = tune(device_, model_.network(), data, how, control);
    model_.read([this](std::size_t i) { return weights_[i].values; });
    return result;
  }
  std::string name() const override {
    cudaDeviceProp properties{};
    sara::cuda::check(cudaGetDeviceProperties(&properties, device_.ordinal()), "cudaGetDeviceProperties");
    return "CUDA device " + std::to_string(device_.ordinal()) + " (" + properties.name + ") in " +
           (narrow_ ? "bfloat16" : "float32");
  }

 private:
  sara::cuda::device device_;
  bool narrow_;
  std::vector<host_weight> weights_;
  device_model<cuda_executor> model_;
  basic_velocity_loss<layers> loss_;
};

}  // namespace

std::unique_ptr<engine> make_cuda_engine(model_shape const& shape, std::vector<host_weight> weights,
                                         sara::thread_pool& pool, bool narrow) {
  int count = 0;
  sara::cuda::check(cudaGetDeviceCount(&count), "--device cuda: cudaGetDeviceCount");
  return std::make_unique<cuda_engine>(sara::cuda::device{}, shape, std::move(weights), pool, narrow);
}

}  // namespace unet
