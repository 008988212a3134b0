// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/torch.h>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <doctest/doctest.h>

#include "../support/svd.hpp"
