// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The whole library for the host. Opt-in: sara/tensor/eigen.hpp for Eigen's matrices.

#include <sara/adapter/adapter.hpp>
#include <sara/adapter/apply.hpp>
#include <sara/adapter/file.hpp>
#include <sara/backend/host.hpp>
#include <sara/backprop.hpp>
#include <sara/error.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/schedule/reselection.hpp>
#include <sara/select/below.hpp>
#include <sara/select/fed.hpp>
#include <sara/select/names.hpp>
#include <sara/select/ranked.hpp>
#include <sara/select/select.hpp>
#include <sara/select/where.hpp>
#include <sara/tensor/span.hpp>
#include <sara/tensor/vector.hpp>
#include <sara/tune/fine_tuner.hpp>
#include <sara/update/adamw.hpp>
#include <sara/update/sgd.hpp>
#include <sara/version.hpp>
