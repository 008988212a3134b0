// SPDX-License-Identifier: Apache-2.0
#include "../conformance/memory.hpp"
#include "places.cuh"

SARA_MEMORY_CASES(sara::test::on_loops);
SARA_MEMORY_CASES(sara::test::on_device);
