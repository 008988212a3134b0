// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/backend/thread_pool.hpp>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../engine.hpp"
#include "../network.hpp"

namespace unet {

/// A parameter's values on the host, under its name.
struct host_weight {
  std::string name;
  std::span<float> values;
};

/// The network on the current CUDA device, with its own copy of the weights.
/// @param weights  of a network of that shape, in the order of its parameters; they must outlive the engine, which
///                 writes what it has learned to them
/// @param pool     for what the host does meanwhile; must outlive the engine
/// @param narrow   rounds the factors of convolutions to bfloat16
/// @throws std::runtime_error  in a build without CUDA
/// @throws sara::error         where there is no device
[[nodiscard]] std::unique_ptr<engine> make_cuda_engine(model_shape const& shape, std::vector<host_weight> weights,
                                                       sara::thread_pool& pool, bool narrow);

}  // namespace unet
