// SPDX-License-Identifier: Apache-2.0
#pragma once

// Other libraries' headers that the library and its tests include, none of the library's own but what svd.hpp needs.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include <Eigen/Core>

#include <doctest/doctest.h>

#include "svd.hpp"
