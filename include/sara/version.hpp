// SPDX-License-Identifier: Apache-2.0
#pragma once

#define SARA_VERSION_MAJOR 0
#define SARA_VERSION_MINOR 1
#define SARA_VERSION_PATCH 0

namespace sara {

/// The library's version as text, major.minor.patch.
inline constexpr char const* version = "0.1.0";

}  // namespace sara
