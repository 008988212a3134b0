// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include <sara/select/names.hpp>

#include "../support/random.hpp"

namespace {

using sara::matches_glob;

/// The same by recursion, as it is defined.
bool matches_by_definition(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*')
    return matches_by_definition(pattern.substr(1), name) ||
           (!name.empty() && matches_by_definition(pattern, name.substr(1)));
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) &&
         matches_by_definition(pattern.substr(1), name.substr(1));
}

}  // namespace

TEST_CASE("globs") {
  CHECK(matches_glob("", ""));
  CHECK(matches_glob("*", ""));
  CHECK(matches_glob("*", "mid.attention.qkv.weight"));
  CHECK(matches_glob("*.weight", "mid.attention.qkv.weight"));
  CHECK(matches_glob("mid.*.q?v.*", "mid.attention.qkv.weight"));
  CHECK(matches_glob("**a**b**", "xxaxxbxx"));
  CHECK(matches_glob("[a]", "[a]"));
  CHECK_FALSE(matches_glob("", "a"));
  CHECK_FALSE(matches_glob("?", ""));
  CHECK_FALSE(matches_glob("*.weight", "mid.weights"));
  CHECK_FALSE(matches_glob("mid", "mid.weight"));
  CHECK_FALSE(matches_glob("weight", "mid.weight"));
  CHECK_FALSE(matches_glob("MID.*", "mid.weight"));
  CHECK_FALSE(matches_glob("[ab]", "a"));
}

TEST_CASE("random globs match as defined") {
  sara::test::sequence numbers{"globs"};
  int matched = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string pattern, name;
    for (auto n = numbers.integer(0, 6); n > 0; --n) pattern += "ab*?"[numbers.integer(0, 3)];
    for (auto n = numbers.integer(0, 7); n > 0; --n) name += "ab"[numbers.integer(0, 1)];
    CAPTURE(pattern);
    CAPTURE(name);
    bool const expected = matches_by_definition(pattern, name);
    if (matches_glob(pattern, name) != expected) FAIL_CHECK("matched otherwise than by definition");
    matched += expected;
  }
  CHECK(matched > 1000);
}

TEST_CASE("a long name against many stars takes no exponential time") {
  std::string pattern;
  for (int i = 0; i < 50; ++i) pattern += "a*";
  CHECK_FALSE(matches_glob(pattern + "b", std::string(10'000, 'a')));
}

TEST_CASE("any of the included and none of the excluded") {
  // [names]
  sara::names const trainable{.include = {"unet.*"}, .exclude = {"*.bias", "*norm*"}};
  CHECK(trainable.contains("unet.mid.conv.weight"));
  CHECK_FALSE(trainable.contains("unet.mid.conv.bias"));
  CHECK_FALSE(trainable.contains("unet.mid.norm.weight"));
  CHECK_FALSE(trainable.contains("text_encoder.embedding"));
  // [/names]
  CHECK(sara::names{}.contains("anything"));
  CHECK_FALSE(sara::names{.include = {}}.contains("anything"));
  CHECK(sara::names{.include = {"a", "b"}}.contains("b"));
}
