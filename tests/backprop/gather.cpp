// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/layout.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::host;
using sara::test::at_positions;
using sara::test::complaint;
using sara::test::make_store;
using sara::test::random_positions;
using sara::test::uniform;

}  // namespace

TEST_CASE_TEMPLATE("a column is gathered, and a gradient added, from any dtype and strides", T, double, float,
                   sara::bfloat16, sara::float16) {
  host const backend{2};
  sara::extents const shape{6, 5, 4};
  auto const values = uniform<T>("w", shape.product());
  std::vector<double> exact;
  for (auto const x : values) exact.push_back(static_cast<double>(sara::widen(x)));
  for (sara::extents const& order : {sara::extents{0, 1, 2}, {2, 1, 0}, {1, 2, 0}}) {
    sara::test::laid_out<T> const w{exact, shape, order, 1};
    auto const positions = random_positions("m", shape.product(), 0.4);
    auto const store = make_store<sara::row_index<host>>(backend, {6, 20}, positions);
    std::vector<double> column(positions.size());
    sara::gather(backend, w.view(), store.ref(), column.data());
    CHECK(column == at_positions(exact, positions));
    sara::accumulate(backend, w.view(), store.ref(), column.data());
    for (std::size_t j = 0; j < column.size(); ++j)
      CHECK(column[j] == 2 * exact[static_cast<std::size_t>(positions[j])]);
  }
}

TEST_CASE_TEMPLATE("scatter writes the positions and nothing else", T, double, float, sara::bfloat16, sara::float16) {
  // [scatter]
  std::vector<float> weight{1, 2, 3, 4, 5, 6};
  std::vector<std::int64_t> const selected{1, 5};
  sara::host const backend{1};
  sara::flat_index const store{backend, {2, 3}, selected.data(), 2};

  std::vector<float> values(2);
  sara::gather(backend, sara::view(weight), store.ref(), values.data());
  values[1] = -6;
  sara::scatter(backend, values.data(), store.ref(), sara::view(weight));

  CHECK(weight == std::vector<float>{1, 2, 3, 4, 5, -6});
  // [/scatter]

  auto const before = uniform<T>("before", 300);
  auto const column = uniform<double>("column", 300);
  auto const positions = random_positions("m", 300, 0.3);
  auto const many = make_store<sara::bitmask<host>>(backend, {20, 15}, positions);
  auto after = before;
  sara::scatter(backend, column.data(), many.ref(), sara::view(after));
  auto expected = before;
  for (std::size_t j = 0; j < positions.size(); ++j)
    expected[static_cast<std::size_t>(positions[j])] = sara::narrow<T>(column[j]);
  CHECK(after == expected);
}

TEST_CASE_TEMPLATE("scatter undoes gather bit by bit, from every store", Store, SARA_HOST_STORES) {
  host const backend{2};
  auto const before = uniform<sara::bfloat16>("before", 40'000);
  auto const positions = random_positions("m", 40'000, 0.5);
  auto const store = make_store<Store>(backend, {200, 200}, positions);
  std::vector<float> column(positions.size());
  sara::gather(backend, sara::view(before), store.ref(), column.data());
  std::vector<sara::bfloat16> after(40'000);
  sara::scatter(backend, column.data(), store.ref(), sara::view(after));
  auto expected = decltype(after)(40'000);
  for (auto const p : positions) expected[static_cast<std::size_t>(p)] = before[static_cast<std::size_t>(p)];
  CHECK(after == expected);
}

TEST_CASE("scatter writes through strides") {
  std::vector<float> column_major{1, 4, 2, 5, 3, 6};
  auto const store = make_store<sara::flat_index<host>>(host{1}, {2, 3}, {1, 3});
  std::vector<double> const values{-2, -4};
  sara::scatter(host{1}, values.data(), store.ref(), sara::tensor_view{column_major.data(), {2, 3}, {1, 2}});
  CHECK(column_major == std::vector<float>{1, -4, -2, 5, 3, 6});
}

TEST_CASE("nothing selected is nothing to do") {
  std::vector<float> w(6, 1.0f);
  auto const store = make_store<sara::row_index<host>>(host{1}, {2, 3}, {});
  float* const none = nullptr;
  sara::gather(host{1}, sara::view(w), store.ref(), none);
  sara::accumulate(host{1}, sara::view(w), store.ref(), none);
  sara::scatter(host{1}, static_cast<float const*>(none), store.ref(), sara::view(w));
  CHECK(w == std::vector<float>(6, 1.0f));
}

TEST_CASE("a tensor of another size or memory is refused") {
  std::vector<float> w(7);
  std::vector<float> column(1);
  auto const store = make_store<sara::flat_index<host>>(host{1}, {2, 3}, {1});
  host const backend{1};
  auto const each = [&]<class E>(sara::tensor_view const& tensor, std::string const& problem) {
    CHECK(complaint<E>([&] { sara::gather(backend, tensor, store.ref(), column.data()); }, {"gather", problem}) == "");
    CHECK(complaint<E>([&] { sara::accumulate(backend, tensor, store.ref(), column.data()); },
                       {"accumulate", problem}) == "");
    CHECK(complaint<E>([&] { sara::scatter(backend, column.data(), store.ref(), tensor); }, {"scatter", problem}) ==
          "");
  };
  each.operator()<sara::shape_error>(sara::view(w), "expected a tensor of 2 rows of 3 elements, got extents [7]");
  each.operator()<sara::shape_error>(sara::view(w.data(), {3, 2}), "2 rows of 3 elements, got extents [3, 2]");
  each.operator()<sara::memory_error>(sara::view(w.data(), {6}, sara::memory::cuda), "CUDA");
}
