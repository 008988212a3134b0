// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sara/tensor/dtype.hpp>

#include "tests/examples/unet/executor_contract.hpp"
#include "tests/examples/unet/plain_executor.hpp"

namespace {

unet::test::plain_executor<float> const machine;

TEST_CASE("the executor of plain loops visits everything once") { unet::test::check_launch(machine); }

TEST_CASE("the executor of plain loops sums rows") { unet::test::check_reduce(machine); }

TEST_CASE("the executor of plain loops multiplies") {
  unet::test::check_multiply<float>(machine);
  unet::test::check_multiply<sara::bfloat16>(machine);
}

}  // namespace
