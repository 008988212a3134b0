// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

namespace sara::detail {

/// a x + b x³ + c x⁵
struct odd_quintic {
  double a, b, c;
};

/// Polar Express (Amsel et al. 2025): the best odd quintics, one after the other, for singular values of [1e-3, 1].
inline constexpr std::array<odd_quintic, 8> polar_express_steps{{
    {8.28721201814563, -23.595886519098837, 17.300387312530933},
    {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
    {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
    {3.3184196573706015, -2.488488024314874, 0.51004894012372},
    {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
    {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
    {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
    {1.875, -1.25, 0.375},
}};

}  // namespace sara::detail
