// SPDX-License-Identifier: Apache-2.0
#include "../conformance/selection.hpp"
#include "places.cuh"

SARA_SELECTION_CASES(sara::test::on_loops);
SARA_SELECTION_CASES(sara::test::on_device);
