// SPDX-License-Identifier: Apache-2.0
#include "polar.hpp"

#include "../support/svd.hpp"
#include "host.hpp"

SARA_POLAR_CASES(sara::test::on_host);
