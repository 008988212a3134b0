// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/fed.hpp>
#include <sara/select/select.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/selected.hpp"

namespace {

using sara::host;
using sara::test::complaint;
using sara::test::selected;

using model = std::vector<sara::const_named_tensor>;
using positions = std::vector<std::int64_t>;

template <class T>
std::vector<T> as(std::vector<double> const& values) {
  std::vector<T> out;
  for (auto const x : values) out.push_back(sara::narrow<T>(x));
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("the entries of most Fisher information, of any dtype", T, double, float, sara::bfloat16,
                   sara::float16) {
  std::vector<float> const a(4, 1.0f), b(3, 1.0f);
  auto const squares_a = as<T>({0.5, 3, 0, 2});
  auto const squares_b = as<T>({4, 0.25, 1});
  model const weights{{"a", sara::view(a)}, {"b", sara::view(b)}};
  model const information{{"b", sara::view(squares_b)}, {"unused", sara::view(a)}, {"a", sara::view(squares_a)}};
  CHECK(selected(weights, sara::fisher{.information = information, .count = 3}) == std::vector<positions>{{1, 3}, {0}});
  CHECK(selected(weights, sara::fisher{.information = information, .count = 1, .over = sara::scope::tensor}) ==
        std::vector<positions>{{1}, {0}});
}

TEST_CASE_TEMPLATE("the entries that changed most, of any dtype", T, double, float, sara::bfloat16, sara::float16) {
  std::vector<float> const w{1, 2, 3, 4};
  auto const tuned = as<T>({1.5, 2, 1, 4.25});
  model const weights{{"w", sara::view(w)}};
  model const after{{"w", sara::view(tuned)}};
  CHECK(selected(weights, sara::most_changed{.tuned = after, .count = 2}) == std::vector<positions>{{0, 2}});
  CHECK(selected(weights, sara::most_changed{.tuned = after, .fraction = 0.75}) == std::vector<positions>{{0, 2, 3}});
}

TEST_CASE("a tensor with strides of its own is read in row-major order") {
  std::vector<float> const w(6);
  std::vector<float> const column_major{1, 4, 2, 5, 3, 6};  // [[1, 2, 3], [4, 5, 6]]
  model const weights{{"w", {w.data(), {2, 3}}}};
  model const information{{"w", {column_major.data(), {2, 3}, {1, 2}}}};
  CHECK(selected(weights, sara::fisher{.information = information, .count = 2})[0] == positions{4, 5});
  CHECK(selected(weights, sara::most_changed{.tuned = information, .count = 2})[0] == positions{4, 5});
}

TEST_CASE("unchanged entries and zero information are equal whatever the sign of zero") {
  std::vector<float> const w{0.0f, 0.0f, 1};
  std::vector<float> const zeros{0.0f, -0.0f, 0.0f};
  model const weights{{"w", sara::view(w)}};
  model const given{{"w", sara::view(zeros)}};
  CHECK(selected(weights, sara::fisher{.information = given, .count = 1})[0] == positions{0});
  CHECK(selected(weights, sara::most_changed{.tuned = given, .count = 2})[0] == positions{0, 2});
}

TEST_CASE("entries whose score is NaN are never selected") {
  std::vector<float> const w(3, 1.0f);
  std::vector<float> const given{std::nanf(""), 2, 1};
  model const weights{{"w", sara::view(w)}};
  model const information{{"w", sara::view(given)}};
  auto const found =
      sara::select(host{1}, std::span{weights}, sara::fisher{.information = information, .fraction = 1.0});
  CHECK(found[0].positions == positions{1, 2});
  CHECK(found[0].not_finite == 0);  // the weights are
}

TEST_CASE("a tensor that is missing, of other extents, or in other memory") {
  std::vector<float> const w(6);
  model const weights{{"w", {w.data(), {2, 3}}}};
  model const none{{"v", {w.data(), {2, 3}}}};
  model const transposed{{"w", {w.data(), {3, 2}}}};
  model const elsewhere{{"w", {w.data(), {2, 3}, sara::memory::cuda}}};
  auto const refusal = [&]<class E>(auto const& selector, std::vector<std::string> const& parts) {
    return complaint<E>([&] { return selected(weights, selector); }, parts);
  };
  CHECK(refusal.operator()<sara::name_error>(sara::fisher{.information = none, .count = 1}, {"fisher", "'w'"}) == "");
  CHECK(refusal.operator()<sara::name_error>(sara::most_changed{.tuned = none, .count = 1}, {"most_changed", "'w'"}) ==
        "");
  CHECK(refusal.operator()<sara::shape_error>(sara::fisher{.information = transposed, .count = 1},
                                              {"fisher", "'w'", "[2, 3]", "[3, 2]"}) == "");
  CHECK(refusal.operator()<sara::shape_error>(sara::most_changed{.tuned = transposed, .count = 1},
                                              {"most_changed", "'w'", "[2, 3]", "[3, 2]"}) == "");
  CHECK(refusal.operator()<sara::memory_error>(sara::fisher{.information = elsewhere, .count = 1},
                                               {"fisher", "'w'", "host memory", "CUDA"}) == "");
}
