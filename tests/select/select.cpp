// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/below.hpp>
#include <sara/select/ranked.hpp>
#include <sara/select/select.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"

namespace {

using sara::host;
using sara::test::complaint;

using model = std::vector<sara::const_named_tensor>;
using positions = std::vector<std::int64_t>;

// [own_selector]
/// A user's own policy: a fixed threshold for matrices, the smallest tenth of everything else.
struct by_rank {
  [[nodiscard]] sara::magnitude score(sara::const_named_tensor const&) const { return {}; }
  [[nodiscard]] sara::cut cut(sara::const_named_tensor const& w) const {
    if (w.tensor.rank() == 2) return sara::threshold_cut{0.5};
    return sara::count_cut{.fraction = 0.1};
  }
};
static_assert(sara::ThresholdSelector<by_rank>);
// [/own_selector]

/// A score that is a whole number: the entry's position.
struct first_ones {
  double cut_at;
  struct score_type {
    template <sara::Real R>
    [[nodiscard]] std::uint64_t operator()(R, std::int64_t position) const {
      return static_cast<std::uint64_t>(position);
    }
  };
  [[nodiscard]] score_type score(sara::const_named_tensor const&) const { return {}; }
  [[nodiscard]] sara::threshold_cut cut(sara::const_named_tensor const&) const { return {cut_at}; }
};

struct unlike_magnitude : sara::below {
  static constexpr bool by_magnitude = false;
};

}  // namespace

TEST_CASE("a user's selector may cut one tensor by threshold and pool the others") {
  std::vector<float> const matrix{1, 0.25f, -0.5f, -0.75f};
  std::vector<float> const a{9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  std::vector<float> const b{1, 10, 10, 10, 10, 10, 10, 10, 10, -0.5f};
  model const weights{{"a", sara::view(a)}, {"matrix", {matrix.data(), {2, 2}}}, {"b", sara::view(b)}};
  auto const found = sara::select(host{1}, std::span{weights}, by_rank{});
  CHECK(found[0].positions == positions{9});
  CHECK(found[1].positions == positions{1});
  CHECK(found[2].positions == positions{9});  // a tenth of the twenty together
  CHECK_FALSE(found[0].threshold.has_value());
}

TEST_CASE("a threshold for scores that are whole numbers") {
  std::vector<float> const w(6);
  model const weights{{"w", sara::view(w)}};
  auto const taken = [&](double threshold) {
    return sara::select(host{1}, std::span{weights}, first_ones{threshold})[0].count;
  };
  CHECK(taken(2) == 2);
  CHECK(taken(2.5) == 3);
  for (double const none : {0.0, -0.0, -3.0, -HUGE_VAL}) CHECK(taken(none) == 0);
  for (double const all : {1e300, 0x1p64, HUGE_VAL}) CHECK(taken(all) == 6);
}

TEST_CASE("a selector may say that it is not by magnitude") {
  std::vector<float> const w{0, 1};
  model const weights{{"w", sara::view(w)}};
  CHECK(sara::select(host{1}, std::span{weights}, sara::below{})[0].threshold.has_value());
  CHECK_FALSE(sara::select(host{1}, std::span{weights}, unlike_magnitude{})[0].threshold.has_value());
}

TEST_CASE("no tensors, and tensors without entries") {
  CHECK(sara::select(host{1}, std::span<sara::const_named_tensor const>{}, sara::below{}).empty());
  CHECK(sara::select(host{1}, std::span<sara::const_named_tensor const>{}, sara::smallest{.count = 0}).empty());
  std::vector<float> const none, some{1, 2};
  model const weights{{"none", sara::view(none)}, {"some", sara::view(some)}};
  auto const found = sara::select(host{1}, std::span{weights}, sara::smallest{.count = 1});
  CHECK(found[0].count == 0);
  CHECK(found[1].positions == positions{0});
  CHECK(sara::select(host{1}, std::span{weights}, sara::below{3.0})[0].count == 0);
}

TEST_CASE("a cut outside its range") {
  std::vector<float> const w(10);
  model const weights{{"w", sara::view(w)}};
  auto const refusal = [&](auto const& selector, std::vector<std::string> const& parts) {
    return complaint<sara::value_error>([&] { return sara::select(host{1}, std::span{weights}, selector); }, parts);
  };
  CHECK(refusal(sara::smallest{}, {"either a fraction or a count", "got neither"}) == "");
  CHECK(refusal(sara::smallest{.fraction = 0.5, .count = 3}, {"either a fraction or a count", "got both"}) == "");
  CHECK(refusal(sara::largest{.fraction = 1.5}, {"from 0 to 1", "got 1.5"}) == "");
  CHECK(refusal(sara::largest{.fraction = -0.1}, {"from 0 to 1", "got -0.1"}) == "");
  CHECK(refusal(sara::largest{.fraction = std::nan("")}, {"from 0 to 1"}) == "");
  CHECK(refusal(sara::random{.count = 11}, {"from 0 to 10", "got 11"}) == "");
  CHECK(refusal(sara::random{.count = -1}, {"from 0 to 10", "got -1"}) == "");
  CHECK(refusal(sara::smallest{.count = 11, .over = sara::scope::tensor}, {"from 0 to 10", "got 11"}) == "");
  struct lost : by_rank {
    [[nodiscard]] sara::cut cut(sara::const_named_tensor const&) const { return sara::threshold_cut{std::nan("")}; }
  };
  CHECK(refusal(lost{}, {"'w'", "got NaN"}) == "");
}

TEST_CASE("one count over the model cannot be two") {
  struct by_name : by_rank {
    [[nodiscard]] sara::cut cut(sara::const_named_tensor const& w) const {
      return sara::count_cut{.count = w.name == "a" ? 1 : 2};
    }
  };
  std::vector<float> const w(10);
  model const weights{{"a", sara::view(w)}, {"b", sara::view(w)}};
  CHECK(complaint<sara::value_error>([&] { return sara::select(host{1}, std::span{weights}, by_name{}); },
                                     {"one count over the model", "'b'"}) == "");
}

TEST_CASE("a tensor in another memory is refused by name") {
  float const w = 0;
  model const weights{{"w", {&w, {1}, sara::memory::cuda}}};
  CHECK(complaint<sara::memory_error>([&] { return sara::select(host{1}, std::span{weights}, sara::below{}); },
                                      {"w: expected", "CUDA"}) == "");
}

TEST_CASE("selection over many ranges is that of one pass") {
  auto const w = sara::test::uniform<float>("w", 400'000);
  model const weights{{"w", sara::view(w)}};
  positions expected;
  for (std::size_t i = 0; i < w.size(); ++i)
    if (std::abs(w[i]) < 0.05f) expected.push_back(static_cast<std::int64_t>(i));
  CHECK(sara::select(host{3}, std::span{weights}, sara::below{0.05})[0].positions == expected);
}
