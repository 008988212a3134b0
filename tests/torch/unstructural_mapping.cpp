// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <vector>

#include <sara/torch/unstructural_mapping.hpp>

#include "../support/compare.hpp"

using sara::test::complaint;
using sara::torch::unstructural_mapping;

TEST_CASE("UM(P, p, M) puts the values at M, and its gradient goes to them and to the rest") {
  torch::manual_seed(51);
  auto const weight = torch::randn({4, 3}, torch::kDouble).t().requires_grad_();  // columns are contiguous
  auto const positions = torch::tensor({11, 0, 5});
  auto const values = torch::randn({3}, torch::dtype(torch::kDouble).requires_grad(true));
  auto const mapped = unstructural_mapping(weight, values, positions);
  auto expected = weight.detach().clone();
  expected.put_(positions, values.detach());
  CHECK(torch::equal(mapped, expected));
  CHECK_FALSE(weight.detach().equal(mapped));
  auto const dy = torch::randn({3, 4}, torch::kDouble);
  mapped.backward(dy);
  CHECK(torch::equal(values.grad(), dy.take(positions)));
  auto rest = dy.clone();
  rest.put_(positions, torch::zeros({3}, torch::kDouble));
  CHECK(torch::equal(weight.grad(), rest));
}

TEST_CASE("a frozen bfloat16 weight with float32 values, and gradients of gradients") {
  torch::manual_seed(52);
  auto const weight = torch::randn({5, 2}).to(torch::kBFloat16);
  auto const positions = torch::tensor({1, 9});
  auto const values = torch::tensor({0.1F, -2.7F}).requires_grad_();
  auto const mapped = unstructural_mapping(weight, values, positions);
  CHECK((mapped.scalar_type() == torch::kBFloat16));
  CHECK(torch::equal(mapped.take(positions), values.to(torch::kBFloat16)));
  auto const slope = torch::autograd::grad({mapped.to(torch::kFloat).pow(3).sum()}, {values}, {}, true, true)[0];
  CHECK((slope.scalar_type() == torch::kFloat));
  slope.sum().backward();  // of 3 p², at p rounded
  CHECK(torch::allclose(values.grad(), 6 * values.detach(), 0.02, 0));
}

TEST_CASE("what does not fit is refused") {
  auto const weight = torch::randn({3, 3});
  auto const at = [](std::vector<std::int64_t> const& positions) { return torch::tensor(positions); };
  auto const call = [&](at::Tensor const& values, at::Tensor const& positions) {
    return [=] { static_cast<void>(unstructural_mapping(weight, values, positions)); };
  };
  CHECK(complaint<sara::shape_error>(call(torch::ones({3}), at({1, 2})), {"[3]", "[2]"}) == "");
  CHECK(complaint<sara::dtype_error>(call(torch::ones({2}), torch::ones({2})), {"int64", "Float"}) == "");
  CHECK_THROWS(call(torch::ones({1}), at({9}))());
}
