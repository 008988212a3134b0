// SPDX-License-Identifier: Apache-2.0
#pragma once

#define SARA_VERSION_MAJOR 0
#define SARA_VERSION_MINOR 1
#define SARA_VERSION_PATCH 0

#define SARA_TEXT(number) #number
#define SARA_VERSION_TEXT(major, minor, patch) SARA_TEXT(major) "." SARA_TEXT(minor) "." SARA_TEXT(patch)

namespace sara {

/// The library's version as text, major.minor.patch.
inline constexpr char const* version = SARA_VERSION_TEXT(SARA_VERSION_MAJOR, SARA_VERSION_MINOR, SARA_VERSION_PATCH);

}  // namespace sara

#undef SARA_VERSION_TEXT
#undef SARA_TEXT
