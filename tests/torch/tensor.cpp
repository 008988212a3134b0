// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/tensor.hpp>

#include "../support/compare.hpp"
#include "../support/stores.hpp"

static_assert(sara::WritableTensor<at::Tensor> && sara::ReadableTensor<at::Tensor const>);
static_assert(sara::NamedTensors<sara::torch::named_tensors>);

TEST_CASE("a view has a tensor's memory, type, extents and strides") {
  auto const whole = torch::arange(24, torch::kDouble).reshape({4, 6});
  for (auto const type : {torch::kDouble, torch::kFloat, torch::kBFloat16, torch::kHalf}) {
    CAPTURE(type);
    auto const tensor = whole.to(type);
    auto const v = sara::view(tensor);
    CHECK(v.bytes() == tensor.data_ptr());
    CHECK(v.shape() == sara::extents{4, 6});
    CHECK(v.stride() == sara::extents{6, 1});
    CHECK(sara::size_of(v.type()) == static_cast<std::int64_t>(tensor.element_size()));
    CHECK(v.where() == sara::memory::host);
  }
  auto const part = whole.slice(0, 1, 3).t();
  auto const v = sara::view(part);
  CHECK(v.shape() == sara::extents{6, 2});
  CHECK(v.stride() == sara::extents{1, 6});
  CHECK(v.bytes() == part.data_ptr());
  CHECK(sara::view(torch::tensor(2.5)).shape() == sara::extents{});
  CHECK(sara::view(torch::empty({0, 3})).size() == 0);
}

TEST_CASE("16-bit types and any strides are read and written as libtorch does") {
  sara::host const backend{1};
  std::vector<std::int64_t> const positions{0, 3, 7, 10};
  auto const store = sara::test::make_store<sara::flat_index<sara::host>>(backend, {4, 3}, positions);
  auto const expected = torch::tensor({0.5, -1.25, 3.0, 1e-3}, torch::kDouble);
  for (auto const type : {torch::kDouble, torch::kFloat, torch::kBFloat16, torch::kHalf}) {
    CAPTURE(type);
    auto const weight = torch::zeros({3, 4}, type).t();  // columns are contiguous
    std::vector<double> const values{0.5, -1.25, 3.0, 1e-3};
    sara::scatter(backend, values.data(), store.ref(), sara::view(weight));
    auto const index = torch::tensor(positions);
    CHECK(torch::equal(weight.take(index), expected.to(type)));
    CHECK(weight.count_nonzero().item<std::int64_t>() == 4);
    std::vector<double> back(4);
    sara::gather(backend, sara::view(weight), store.ref(), back.data());
    CHECK(torch::equal(torch::tensor(back, torch::kDouble), weight.take(index).to(torch::kDouble)));
  }
}

TEST_CASE("what is no plain floating-point tensor is refused") {
  using sara::test::complaint;
  auto const view_of = [](at::Tensor const& tensor) { return [tensor] { static_cast<void>(sara::view(tensor)); }; };
  CHECK(complaint<sara::value_error>(view_of({}), {"undefined"}) == "");
  CHECK(complaint<sara::value_error>(view_of(torch::eye(2).to_sparse()), {"strided", "Sparse"}) == "");
  CHECK(complaint<sara::dtype_error>(view_of(torch::ones({2}, torch::kLong)), {"float32", "Long"}) == "");
  CHECK(complaint<sara::dtype_error>(view_of(torch::ones({2}, torch::kComplexFloat)), {"float32"}) == "");
  CHECK(complaint<sara::shape_error>(view_of(torch::ones({1, 1, 1, 1, 1, 1, 1, 1, 1})), {"8 dimensions"}) == "");
}

TEST_CASE("named weights are a module's parameters by their dotted names") {
  torch::nn::Sequential const model{torch::nn::Linear(2, 3), torch::nn::BatchNorm1d(3)};
  std::vector<std::string> names;
  for (auto const& [name, tensor] : sara::torch::named_weights(*model)) names.push_back(name);
  CHECK(names == std::vector<std::string>{"0.weight", "0.bias", "1.weight", "1.bias"});
}
