// SPDX-License-Identifier: Apache-2.0
#include "../conformance/tuning.hpp"
#include "places.cuh"

SARA_TUNING_CASES(sara::test::on_loops);
SARA_TUNING_CASES(sara::test::on_device);
