// SPDX-License-Identifier: Apache-2.0
#include "tuning.hpp"

#include "host.hpp"

SARA_TUNING_CASES(sara::test::on_host);
