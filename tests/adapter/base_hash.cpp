// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include <sara/adapter/base_hash.hpp>
#include <sara/backend/host.hpp>
#include <sara/tensor/traits.hpp>

#include "../support/layout.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace {

template <sara::Scalar T>
std::uint64_t hash_of(std::vector<T> const& values, int threads = 1) {
  return sara::base_hash(sara::host{threads}, sara::view(values.data(), {std::ssize(values)}));
}

}  // namespace

TEST_CASE("the hash of a tensor never changes: adapters of today are applied tomorrow") {
  CHECK(hash_of(std::vector<float>{1, -0.5f, 0}) == 0x90612145a8aa8646u);
  CHECK(hash_of(std::vector<double>{1, -0.5, 0}) == 0xbfa0ad303af4d61cu);
  CHECK(hash_of(std::vector{sara::float16{1}, sara::float16{-0.5f}}) == 0x4328ad22cad6fb6eu);
  CHECK(hash_of(std::vector{sara::bfloat16{1}, sara::bfloat16{-0.5f}}) == 0x9622222ef1597b26u);
  CHECK(hash_of(std::vector<float>{}) == 0x910a2dec89025cc1u);
}

TEST_CASE_TEMPLATE("any single entry, any two entries exchanged, another length: another hash", T, float, double,
                   sara::float16, sara::bfloat16) {
  auto const values = sara::test::uniform<T>("weights", 200);
  std::set<std::uint64_t> seen{hash_of(values)};
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto changed = values;
    changed[i] = sara::narrow<T>(2 * sara::widen(values[i]));
    seen.insert(hash_of(changed));
  }
  for (std::size_t i = 1; i < values.size(); ++i) {
    auto changed = values;
    std::swap(changed[0], changed[i]);
    seen.insert(hash_of(changed));
  }
  seen.insert(hash_of(std::vector<T>(values.begin(), values.end() - 1)));
  CHECK(seen.size() == 1 + 200 + 199 + 1);
}

TEST_CASE("it is of bits: the zeros differ, NaN is itself, and the dtype counts") {
  CHECK(hash_of(std::vector<float>{0.0f}) != hash_of(std::vector<float>{-0.0f}));
  auto const nan = std::vector<float>{std::numeric_limits<float>::quiet_NaN()};
  CHECK(hash_of(nan) == hash_of(nan));
  CHECK(hash_of(std::vector<sara::float16>(3)) != hash_of(std::vector<sara::bfloat16>(3)));
  CHECK(hash_of(std::vector<float>(3)) != hash_of(std::vector<double>(3)));
}

TEST_CASE("neither threads nor strides matter") {
  auto const values = sara::test::uniform<float>("many", 300 * 200);
  auto const expected = hash_of(values);
  for (int const threads : sara::test::thread_counts) CHECK(hash_of(values, threads) == expected);
  sara::test::laid_out<float> const by_columns{values, {300, 200}, {1, 0}, 2};
  CHECK(sara::base_hash(sara::host{2}, by_columns.view()) == expected);
}
