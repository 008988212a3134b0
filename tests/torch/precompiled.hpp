// SPDX-License-Identifier: Apache-2.0
#pragma once

// All of libtorch's headers that the wing includes: the units that read one header of ours alone do so behind macros
// that libtorch's would not survive.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/RedispatchFunctions.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/library.h>
#include <torch/torch.h>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <doctest/doctest.h>

#include "../support/svd.hpp"
