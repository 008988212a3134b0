// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The wing for libtorch: everything of sara/torch, and what policies it takes.

#include <sara/sara.hpp>
#include <sara/torch/adamw.hpp>
#include <sara/torch/adapter.hpp>
#include <sara/torch/functions.hpp>
#include <sara/torch/modules.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/optimizer.hpp>
#include <sara/torch/published.hpp>
#include <sara/torch/sampled_operators.hpp>
#include <sara/torch/tensor.hpp>
#include <sara/torch/unstructural_mapping.hpp>
