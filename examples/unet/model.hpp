// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host_layers.hpp"
#include "network.hpp"

namespace unet {

/// The network on the host.
template <class Real>
using model = basic_model<host_layers<Real>>;
template <class Real>
using stage = basic_stage<host_layers<Real>>;
template <class Real>
using attention = basic_attention<host_layers<Real>>;

}  // namespace unet
