// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include <sara/adapter/base_hash.hpp>
#include <sara/backend/concept.hpp>
#include <sara/backend/host.hpp>
#include <sara/backprop/gather.hpp>
#include <sara/backprop/scatter.hpp>
#include <sara/store/bitmask.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/store/row_index.hpp>
#include <sara/tensor/traits.hpp>

#include "../support/compare.hpp"
#include "../support/layout.hpp"
#include "../support/placed.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace sara::test {

struct add_to_slot {
  double* to;
  double amount;
  SARA_HOST_DEVICE void operator()(std::int64_t slot, std::int64_t position) const {
    to[slot] += amount + static_cast<double>(position);
  }
};

struct two_sums {
  double slots = 0;
  double positions = 0;
  SARA_HOST_DEVICE two_sums& operator+=(two_sums const& other) {
    slots += other.slots;
    positions += other.positions;
    return *this;
  }
  SARA_HOST_DEVICE friend two_sums operator+(two_sums a, two_sums const& b) { return a += b; }
};

struct count_both {
  SARA_HOST_DEVICE two_sums operator()(std::int64_t slot, std::int64_t position) const {
    return {static_cast<double>(slot), static_cast<double>(position)};
  }
};

struct root_of_slot {
  SARA_HOST_DEVICE double operator()(std::int64_t slot, std::int64_t) const {
    return std::sqrt(static_cast<double>(slot));
  }
};

struct large_bits {
  SARA_HOST_DEVICE std::uint64_t operator()(std::int64_t, std::int64_t) const { return (std::uint64_t{1} << 63) + 1; }
};

template <class Ref>
struct ask_lower_bound {
  Ref ref;
  std::int64_t* to;
  SARA_HOST_DEVICE void operator()(std::int64_t i, std::int64_t) const { to[i] = ref.lower_bound(i); }
};

/// Empty if a store of these positions answers as their list does.
template <template <class> class Store, class Backend>
[[nodiscard]] std::string store_fault(Backend const& backend, matrix_shape shape,
                                      std::vector<std::int64_t> const& list) {
  using store_type = Store<Backend>;
  auto const store = placed_store<store_type>(backend, shape, list);
  if (positions_of(backend, store) != list) return "other positions";
  auto bounds = backend.template allocate<std::int64_t>(shape.size() + 1);
  auto const ref = store.ref();
  for_each(backend, all_positions{shape.size() + 1}, ask_lower_bound<decltype(ref)>{ref, bounds.data()});
  std::vector<std::int64_t> got(bounds.size());
  backend.download(bounds.data(), std::span{got});
  for (std::int64_t p = 0; p <= shape.size(); ++p)
    if (got[static_cast<std::size_t>(p)] != std::lower_bound(list.begin(), list.end(), p) - list.begin())
      return "another lower bound of " + std::to_string(p);
  return {};
}

}  // namespace sara::test

TEST_CASE_TEMPLATE_DEFINE("memory is zeroed, and copies go both ways", Place, sara_memory) {
  for (auto const& backend : Place::all()) {
    auto column = backend.template allocate<float>(1000);
    std::vector<float> got(1000, 7.0f);
    backend.download(column.data(), std::span{got});
    CHECK(got == std::vector<float>(1000));
    auto const sent = sara::test::uniform<float>("sent", 1000);
    backend.upload(std::span{sent}, column.data());
    backend.download(column.data(), std::span{got});
    CHECK(got == sent);
    auto moved = std::move(column);
    backend.download(moved.data(), std::span{got});
    CHECK(got == sent);
    CHECK(backend.template allocate<double>(0).size() == 0);
    backend.synchronize();
  }
}

TEST_CASE_TEMPLATE_DEFINE("for_each calls once for every slot of every job", Place, sara_for_each) {
  using sara::test::add_to_slot;
  using job = sara::sparse_job<sara::all_positions, add_to_slot>;
  for (auto const& backend : Place::all()) {
    std::vector<std::int64_t> sizes{0, 1, 255, 256, 2047, 2048, 2049, 70'000, 0};
    for (std::int64_t i = 0; i < 2500; ++i) sizes.push_back(i % 5);  // more jobs than a kernel takes at a time
    auto const total = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
    auto column = backend.template allocate<double>(total);
    std::vector<job> jobs;
    std::vector<double> expected;
    for (auto const size : sizes) {
      auto const amount = static_cast<double>(jobs.size()) * 1e6;
      jobs.push_back({{size}, {column.data() + expected.size(), amount}});
      for (std::int64_t slot = 0; slot < size; ++slot) expected.push_back(2 * (amount + static_cast<double>(slot)));
    }
    for (int pass = 0; pass < 2; ++pass) backend.for_each(std::span<job const>{jobs});
    backend.for_each(std::span<job const>{});
    std::vector<double> got(expected.size());
    backend.download(column.data(), std::span{got});
    CHECK(got == expected);
  }
}

TEST_CASE_TEMPLATE_DEFINE("reduce adds, of any type, the same bits every time", Place, sara_reduce) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    std::vector<std::int64_t> const positions = random_positions("reduce", 50'000, 0.3);
    auto const store = placed_store<sara::row_index<typename Place::backend>>(backend, {100, 500}, positions);
    auto sums = place(backend, std::vector<two_sums>{{1000, 2000}});
    sara::reduce(backend, store.ref(), count_both{}, sums.data());
    auto const n = std::ssize(positions);
    auto const both = sums.get()[0];
    CHECK(both.slots == 1000 + static_cast<double>(n * (n - 1) / 2));
    CHECK(both.positions ==
          2000 + static_cast<double>(std::accumulate(positions.begin(), positions.end(), std::int64_t{0})));

    auto bits = place(backend, std::vector<std::uint64_t>{5});
    sara::reduce(backend, sara::all_positions{1'000'001}, large_bits{}, bits.data());
    CHECK(bits.get()[0] == 5 + (std::uint64_t{1} << 63) + 1'000'001);

    std::vector<double> roots;
    for (int pass = 0; pass < 3; ++pass) {
      auto sum = place(backend, std::vector<double>{0});
      sara::reduce(backend, sara::all_positions{300'000}, root_of_slot{}, sum.data());
      roots.push_back(sum.get()[0]);
    }
    CHECK(roots[0] == roots[1]);
    CHECK(roots[0] == roots[2]);
    CHECK(roots[0] == doctest::Approx(2.0 / 3 * 300'000 * std::sqrt(300'000.0) - std::sqrt(300'000.0) / 2));
    auto none = place(backend, std::vector<double>{3});
    sara::reduce(backend, sara::all_positions{0}, root_of_slot{}, none.data());
    CHECK(none.get()[0] == 3);
  }
}

TEST_CASE_TEMPLATE_DEFINE("a store is its list of positions, in the backend's memory", Place, sara_stores) {
  using namespace sara::test;
  for (auto const& backend : Place::all())
    for (auto const shape : {sara::matrix_shape{37, 53}, {1, 1}, {1, 1961}, {70'000, 1}, {2, 70'000}, {0, 5}})
      for (double const density : {0.0, 0.003, 0.3, 1.0}) {
        CAPTURE(shape.rows);
        CAPTURE(density);
        auto const list = random_positions("store", shape.size(), density);
        CHECK(store_fault<sara::flat_index>(backend, shape, list) == "");
        CHECK(store_fault<sara::row_index>(backend, shape, list) == "");
        CHECK(store_fault<sara::bitmask>(backend, shape, list) == "");
      }
}

TEST_CASE_TEMPLATE_DEFINE("slots are kept by intersection, in the backend's memory", Place, sara_intersect) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    auto const list = random_positions("before", 40 * 300, 0.3);
    auto const keep = random_positions("keep", std::ssize(list), 0.2);
    auto const before = placed_store<sara::row_index<typename Place::backend>>(backend, {40, 300}, list);
    auto const slots = place(backend, keep);
    auto const after = sara::keep_slots(backend, before, slots.data(), std::ssize(keep));
    std::vector<std::int64_t> expected;
    for (auto const slot : keep) expected.push_back(list[static_cast<std::size_t>(slot)]);
    CHECK(positions_of(backend, after) == expected);
  }
}

TEST_CASE_TEMPLATE_DEFINE("gather, scatter and accumulate, for any dtype and order in memory", Place, sara_gather) {
  using namespace sara::test;
  auto const check = []<class T>(typename Place::backend const& backend, T) {
    sara::matrix_shape const shape{30, 40};
    auto const values = uniform<T>("tensor", shape.size());
    auto const positions = random_positions("m", shape.size(), 0.2);
    auto const store = placed_store<sara::flat_index<typename Place::backend>>(backend, shape, positions);
    laid_out<T> const by_column{values, {30, 40}, {1, 0}, 1};
    placed_tensor const tensor{backend, by_column.view(), by_column.size()};
    std::vector<float> expected;
    for (auto const p : positions)
      expected.push_back(static_cast<float>(sara::widen(values[static_cast<std::size_t>(p)])));
    auto column = place(backend, std::vector<float>(positions.size(), 9.0f));
    sara::gather(backend, tensor.view(), store.ref(), column.data());
    CHECK(column.get() == expected);
    sara::accumulate(backend, tensor.view(), store.ref(), column.data());
    for (auto& x : expected) x *= 2;
    CHECK(column.get() == expected);

    auto dense = place(backend, values);
    sara::scatter(backend, column.data(), store.ref(), dense.view({30, 40}));
    auto written = values;
    for (std::size_t j = 0; j < positions.size(); ++j)
      written[static_cast<std::size_t>(positions[j])] = sara::narrow<T>(expected[j]);
    CHECK(dense.get() == written);
  };
  for (auto const& backend : Place::all()) {
    check(backend, 0.0);
    check(backend, 0.0f);
    check(backend, sara::bfloat16{});
    check(backend, sara::float16{});
  }
}

TEST_CASE_TEMPLATE_DEFINE("a base hash is the host's", Place, sara_base_hash) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    auto const values = uniform<float>("hashed", 12'345);
    auto const there = place(backend, values);
    CHECK(sara::base_hash(backend, there.view({12'345})) ==
          sara::base_hash(sara::host{1}, sara::view(values.data(), {12'345})));
  }
}

/// Every case above for one place.
#define SARA_MEMORY_CASES(Place)                    \
  TEST_CASE_TEMPLATE_INVOKE(sara_memory, Place);    \
  TEST_CASE_TEMPLATE_INVOKE(sara_for_each, Place);  \
  TEST_CASE_TEMPLATE_INVOKE(sara_reduce, Place);    \
  TEST_CASE_TEMPLATE_INVOKE(sara_stores, Place);    \
  TEST_CASE_TEMPLATE_INVOKE(sara_intersect, Place); \
  TEST_CASE_TEMPLATE_INVOKE(sara_gather, Place);    \
  TEST_CASE_TEMPLATE_INVOKE(sara_base_hash, Place)
