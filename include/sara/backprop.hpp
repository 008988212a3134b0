// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Unstructural backpropagation alone: positions, scatter (eq. 6), gather and sampled gradients (eq. 7), on the host.
///
///     sara::host backend;
///     sara::flat_index<sara::host> store{backend, {out, in}, positions.data(), count};
///     sara::accumulate_linear(backend, dy, x, store.ref(), gradient.data());
///     sara::scatter(backend, values.data(), store.ref(), weight);

#include <sara/backend/host.hpp>
#include <sara/backprop/conv2d.hpp>
#include <sara/backprop/embedding.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/linear.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/store/bitmask.hpp>
#include <sara/store/check_positions.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/span.hpp>
#include <sara/tensor/vector.hpp>
