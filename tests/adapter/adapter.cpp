// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <sara/adapter/adapter.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/random.hpp"

namespace {

using sara::test::complaint;
using sara::test::difference;
using position_list = std::vector<std::int64_t>;

sara::adapter_tensor tensor(position_list where, std::vector<float> delta) {
  return {{4, 5}, sara::dtype::float32, 77, std::move(where), std::move(delta)};
}

std::vector<float> const& delta_of(sara::adapter const& a, std::string const& name) {
  return std::get<std::vector<float>>(a.tensors.at(name).delta);
}

}  // namespace

TEST_CASE("two adapters become one over the union of their positions") {
  // [merge]
  sara::adapter style;
  style.tensors["w"] = {{4, 5}, sara::dtype::float32, 77, {1, 4, 9}, std::vector<float>{1, 2, 3}};
  sara::adapter subject;
  subject.tensors["w"] = {{4, 5}, sara::dtype::float32, 77, {0, 4, 19}, std::vector<float>{10, 20, 30}};

  sara::adapter const both = sara::merge({{style, 0.6}, {subject, 0.5}});
  // positions {0, 1, 4, 9, 19}, delta {5, 0.6, 11.2, 1.8, 15}
  // [/merge]
  auto const& merged = both.tensors.at("w");
  CHECK(merged.positions == position_list{0, 1, 4, 9, 19});
  CHECK(difference(delta_of(both, "w"), std::vector<double>{5, 0.6, 11.2, 1.8, 15}, {0, 1e-7}) == "");
  CHECK(merged.shape == sara::extents{4, 5});
  CHECK(merged.type == sara::dtype::float32);
  CHECK(merged.base_hash == 77);
  CHECK(both.count() == 5);
}

TEST_CASE("one adapter, scaled; nothing of none") {
  sara::adapter a;
  a.tensors["w"] = tensor({2, 3}, {1.5f, -2});
  CHECK(delta_of(sara::merge({{a, 1}}), "w") == std::vector<float>{1.5f, -2});
  CHECK(delta_of(sara::merge({{a, -2}}), "w") == std::vector<float>{-3, 4});
  CHECK(sara::merge({}).tensors.empty());
  CHECK(sara::merge({}).count() == 0);
}

TEST_CASE("tensors that only one adapter has, empty ones, and three at once") {
  sara::adapter a, b, c;
  a.tensors["one"] = tensor({2}, {1});
  a.tensors["shared"] = tensor({}, {});
  b.tensors["shared"] = tensor({3, 7}, {1, 2});
  c.tensors["shared"] = tensor({7}, {10});
  c.tensors["two"] = tensor({0}, {4});
  auto const all = sara::merge({{a, 2}, {b, 3}, {c, 0.5}});
  CHECK(all.tensors.size() == 3);
  CHECK(delta_of(all, "one") == std::vector<float>{2});
  CHECK(all.tensors.at("shared").positions == position_list{3, 7});
  CHECK(delta_of(all, "shared") == std::vector<float>{3, 11});
  CHECK(delta_of(all, "two") == std::vector<float>{2});
}

TEST_CASE("disjoint adapters merge to both, in either order") {
  sara::adapter even, odd;
  even.tensors["w"] = tensor({0, 2, 4, 18}, {1, 2, 3, 4});
  odd.tensors["w"] = tensor({1, 3, 19}, {-1, -2, -3});
  auto const one = sara::merge({{even, 1}, {odd, 1}});
  auto const other = sara::merge({{odd, 1}, {even, 1}});
  CHECK(one.tensors.at("w").positions == position_list{0, 1, 2, 3, 4, 18, 19});
  CHECK(delta_of(one, "w") == std::vector<float>{1, -1, 2, -2, 3, 4, -3});
  CHECK(other.tensors.at("w").positions == one.tensors.at("w").positions);
  CHECK(delta_of(other, "w") == delta_of(one, "w"));
}

TEST_CASE("float64 tensors are merged in float64") {
  auto const values = sara::test::uniform<double>("delta", 3);
  sara::adapter a;
  a.tensors["w"] = {{3}, sara::dtype::float64, 5, {0, 1, 2}, values};
  auto const same = sara::merge({{a, 1}});
  CHECK(sara::test::same_bits(std::get<std::vector<double>>(same.tensors.at("w").delta), values));
}

TEST_CASE("adapters of other weights are not merged") {
  sara::adapter a;
  a.tensors["w"] = tensor({1}, {1});
  auto const refused = [&]<class Error>(sara::adapter_tensor const& other, std::vector<std::string> const& parts) {
    sara::adapter b;
    b.tensors["w"] = other;
    return complaint<Error>([&] { static_cast<void>(sara::merge({{a, 1}, {b, 1}})); }, parts);
  };
  auto other = tensor({1}, {1});
  other.base_hash = 78;
  CHECK(refused.operator()<sara::base_error>(other, {"'w'", "77", "78"}) == "");
  other = tensor({1}, {1});
  other.shape = {5, 4};
  CHECK(refused.operator()<sara::shape_error>(other, {"'w'", "[4, 5]", "[5, 4]"}) == "");
  other = {{4, 5}, sara::dtype::float64, 77, {1}, std::vector<double>{1}};
  CHECK(refused.operator()<sara::shape_error>(other, {"'w'", "float32", "float64"}) == "");
}

TEST_CASE("nothing that contradicts itself is merged") {
  auto const refused = [&](sara::adapter_tensor const& wrong, double scale, std::vector<std::string> const& parts) {
    sara::adapter a;
    a.tensors["w"] = wrong;
    return complaint<sara::value_error>([&] { static_cast<void>(sara::merge({{a, scale}})); }, parts);
  };
  auto const good = tensor({1, 3}, {1, 2});
  auto wrong = good;
  wrong.positions = {3, 1};
  CHECK(refused(wrong, 1, {"'w'", "ascending positions", "got 1 after 3"}) == "");
  wrong = good;
  wrong.positions.push_back(7);
  CHECK(refused(wrong, 1, {"'w'", "one delta a position, got 2 for 3"}) == "");
  wrong = good;
  wrong.type = sara::dtype::float64;
  CHECK(refused(wrong, 1, {"'w'", "deltas in double for float64, got float"}) == "");
  CHECK(refused(good, std::numeric_limits<double>::infinity(), {"finite scale", "inf"}) == "");
}
