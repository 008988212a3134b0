// SPDX-License-Identifier: Apache-2.0
#include "../conformance/products.hpp"
#include "places.cuh"

SARA_PRODUCT_CASES(sara::test::on_loops);
SARA_PRODUCT_CASES(sara::test::on_device);
