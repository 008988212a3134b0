// SPDX-License-Identifier: Apache-2.0
#include "../conformance/polar.hpp"
#include "places.cuh"

SARA_POLAR_CASES(sara::test::on_loops);
SARA_POLAR_CASES(sara::test::on_device);
