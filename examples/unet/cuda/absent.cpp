// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <stdexcept>
#include <vector>

#include "engine.hpp"

// What a build without nvcc has in the place of engine.cu.
namespace unet {

std::unique_ptr<engine> make_cuda_engine(model_shape const&, std::vector<host_weight>, sara::thread_pool&, bool) {
  throw std::runtime_error{"--device cuda: this build has no CUDA (CMake found no nvcc, or SARA_CUDA is off)"};
}

}  // namespace unet
