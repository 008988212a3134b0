// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include <sara/backprop/embedding.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/layout.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::const_tensor_view;
using sara::host;
using sara::test::at_positions;
using sara::test::complaint;
using sara::test::difference;
using sara::test::make_store;
using sara::test::random_positions;
using sara::test::uniform;

std::vector<std::int64_t> random_tokens(std::int64_t tokens, std::int64_t rows) {
  sara::test::sequence numbers{"tokens"};
  std::vector<std::int64_t> out(static_cast<std::size_t>(tokens));
  for (auto& row : out) row = numbers.integer(0, rows - 1);
  return out;
}

/// The gradient of a table [rows, width], dense, in float64.
std::vector<double> dense_gradient(const_tensor_view const& dy, std::vector<std::int64_t> const& index,
                                   std::int64_t rows) {
  auto const g = sara::test::values_of(dy);
  auto const width = g.size() / index.size();
  std::vector<double> out(static_cast<std::size_t>(rows) * width);
  for (std::size_t t = 0; t < index.size(); ++t)
    for (std::size_t c = 0; c < width; ++c) out[static_cast<std::size_t>(index[t]) * width + c] += g[t * width + c];
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("the gradient of a table at its selected entries, from every store", Store, SARA_HOST_STORES) {
  host const backend{2};
  auto const index = random_tokens(60, 25);
  auto const dy = uniform<float>("dy", 60 * 12);
  auto const dy_view = sara::view(dy.data(), {4, 15, 12});
  auto const positions = random_positions("m", 25 * 12, 0.3);
  auto const store = make_store<Store>(backend, {25, 12}, positions);
  auto const expected = at_positions(dense_gradient(dy_view, index, 25), positions);
  std::vector<double> gradient(positions.size());
  sara::accumulate_embedding(backend, dy_view, index, store.ref(), gradient.data());
  CHECK(difference(gradient, expected, {1e-13, 1e-13}) == "");
  std::vector<float> narrow(positions.size());
  sara::accumulate_embedding(backend, dy_view, index, store.ref(), narrow.data());
  CHECK(difference(narrow, expected, {1e-5, 1e-5}) == "");
}

TEST_CASE_TEMPLATE("dY of any dtype and order in memory", T, double, float, sara::bfloat16, sara::float16) {
  host const backend{1};
  auto const index = random_tokens(20, 6);
  auto const values = uniform<double>("dy", 20 * 5);
  auto const positions = random_positions("m", 6 * 5, 0.6);
  auto const store = make_store<sara::row_index<host>>(backend, {6, 5}, positions);
  for (sara::extents const& order : {sara::extents{0, 1}, {1, 0}}) {
    sara::test::laid_out<T> const dy{values, {20, 5}, order, 1};
    std::vector<double> gradient(positions.size());
    sara::accumulate_embedding(backend, dy.view(), index, store.ref(), gradient.data());
    CHECK(difference(gradient, at_positions(dense_gradient(dy.view(), index, 6), positions), {1e-13, 1e-13}) == "");
  }
}

TEST_CASE("a row looked up often, and one never") {
  // [embedding]
  std::vector<float> const dy{1, 2, 10, 20, 100, 200};  // three tokens of width two
  std::vector<std::int64_t> const tokens{2, 0, 2};
  std::vector<std::int64_t> const selected{0, 3, 4, 5};
  sara::host const backend{1};
  sara::flat_index const store{backend, {3, 2}, selected.data(), std::ssize(selected)};

  std::vector<float> gradient(selected.size());
  sara::accumulate_embedding(backend, sara::view(dy.data(), {3, 2}), tokens, store.ref(), gradient.data());

  CHECK(gradient == std::vector<float>{10, 0, 101, 202});
  // [/embedding]
  sara::accumulate_embedding(backend, sara::view(dy.data(), {3, 2}), tokens, store.ref(), gradient.data());
  CHECK(gradient == std::vector<float>{20, 0, 202, 404});
}

TEST_CASE("no tokens") {
  float const nothing = 0;
  std::vector<float> gradient{7};
  auto const store = make_store<sara::flat_index<host>>(host{1}, {3, 2}, {1});
  sara::accumulate_embedding(host{1}, sara::view(&nothing, {0, 2}), std::vector<std::int64_t>{}, store.ref(),
                             gradient.data());
  CHECK(gradient[0] == 7);
}

TEST_CASE("what does not fit") {
  std::vector<float> const data(100);
  std::vector<float> gradient(1);
  auto const store = make_store<sara::flat_index<host>>(host{1}, {3, 2}, {1});
  auto const refusal = [&]<class E>(const_tensor_view const& dy, std::vector<std::int64_t> const& index,
                                    std::string const& problem) {
    return complaint<E>([&] { sara::accumulate_embedding(host{1}, dy, index, store.ref(), gradient.data()); },
                        {"embedding", problem});
  };
  auto const of = [&](sara::extents const& shape) { return sara::view(data.data(), shape); };
  CHECK(refusal.operator()<sara::shape_error>(of({2, 3}), {0, 1}, "expected dY [2, 2], got [2, 3]") == "");
  CHECK(refusal.operator()<sara::shape_error>(of({3, 2}), {0, 1}, "expected dY [2, 2], got [3, 2]") == "");
  CHECK(refusal.operator()<sara::shape_error>(of({}), {0}, "expected dY") == "");
  CHECK(refusal.operator()<sara::value_error>(of({2, 2}), {0, 3}, "from 0 to 2, got 3") == "");
  CHECK(refusal.operator()<sara::value_error>(of({2, 2}), {-1, 0}, "got -1") == "");
  CHECK(refusal.operator()<sara::memory_error>(sara::view(data.data(), {2, 2}, sara::memory::cuda), {0, 1}, "CUDA") ==
        "");
}
