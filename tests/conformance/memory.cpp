// SPDX-License-Identifier: Apache-2.0
#include "memory.hpp"

#include "host.hpp"

SARA_MEMORY_CASES(sara::test::on_host);
