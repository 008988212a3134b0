// SPDX-License-Identifier: Apache-2.0
#include "selection.hpp"

#include "host.hpp"

SARA_SELECTION_CASES(sara::test::on_host);
