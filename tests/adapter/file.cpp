// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include <sara/adapter/file.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/scratch.hpp"

namespace {

using nlohmann::json;
using sara::test::complaint;
using sara::test::same_bits;
using sara::test::scratch;

sara::adapter sample() {
  sara::adapter out;
  out.tensors["attention.q.weight"] = {
      {8, 6}, sara::dtype::float32, 0xfedcba9876543210u, {0, 7, 8, 47}, sara::test::uniform<float>("f32", 4, 1e-3)};
  out.tensors["conv.weight"] = {
      {4, 2, 3, 3}, sara::dtype::bfloat16, 1, {5, 70}, std::vector<float>{-0.0f, std::numeric_limits<float>::min()}};
  out.tensors["double"] = {{3}, sara::dtype::float64, ~0u, {1}, std::vector<double>{1.0 / 3}};
  out.tensors["empty"] = {{2, 2}, sara::dtype::float16, 9, {}, std::vector<float>{}};
  out.tensors["huge"] = {
      {1 << 20, 1 << 20}, sara::dtype::float16, 9, {3, (std::int64_t{1} << 40) - 1}, std::vector<float>{1, 2}};
  out.tensors["scalar"] = {{}, sara::dtype::float32, 2, {0}, std::vector<float>{4}};
  return out;
}

/// An adapter file with one tensor "w" of extents [4, 5], whose parts can be falsified before it is written.
struct forged {
  json about = json{{"w", {{"shape", {4, 5}}, {"dtype", "float32"}, {"base", "00000000000000ff"}}}};
  std::vector<std::int32_t> positions{1, 19};
  std::vector<float> delta{0.5f, -0.5f};
  std::string format = "sara.adapter";
  std::string format_version = "1";

  void write(std::filesystem::path const& path) const {
    sara::safetensors_writer file;
    file.add("w.positions", positions);
    file.add("w.delta", delta);
    file.set_metadata("format", format);
    file.set_metadata("format_version", format_version);
    file.set_metadata("tensors", about.dump());
    file.write(path);
  }

  /// Empty if the file is refused with a sentence that names it and holds `part`.
  [[nodiscard]] std::string refused(std::string const& part) const {
    scratch const folder;
    write(folder / "forged.safetensors");
    return complaint<sara::file_error>([&] { static_cast<void>(sara::load_adapter(folder / "forged.safetensors")); },
                                       {"forged.safetensors", part});
  }
};

}  // namespace

TEST_CASE("what is saved is loaded, bit by bit") {
  scratch const folder;
  auto const written = sample();
  // [file]
  sara::save(written, folder / "style.safetensors");
  sara::adapter const read = sara::load_adapter(folder / "style.safetensors");
  // [/file]
  REQUIRE(read.tensors.size() == written.tensors.size());
  for (auto const& item : written.tensors) {
    CAPTURE(item.first);
    auto const& expected = item.second;
    auto const& got = read.tensors.at(item.first);
    CHECK(got.shape == expected.shape);
    CHECK(got.type == expected.type);
    CHECK(got.base_hash == expected.base_hash);
    CHECK(got.positions == expected.positions);
    REQUIRE(got.delta.index() == expected.delta.index());
    if (expected.type == sara::dtype::float64)
      CHECK(same_bits(std::get<std::vector<double>>(got.delta), std::get<std::vector<double>>(expected.delta)));
    else
      CHECK(same_bits(std::get<std::vector<float>>(got.delta), std::get<std::vector<float>>(expected.delta)));
  }
  CHECK(read.count() == 10);
}

TEST_CASE("the layout that the documentation promises") {
  scratch const folder;
  auto const bytes = sara::save(sample(), folder / "a");
  CHECK(bytes == static_cast<std::int64_t>(std::filesystem::file_size(folder / "a")));
  auto const file = sara::safetensors::load(folder / "a");
  CHECK(file.metadata("format") == "sara.adapter");
  CHECK(file.metadata("format_version") == "1");
  CHECK(file.metadata("sara_version") == sara::version);
  CHECK(file.at("attention.q.weight.positions").type == "I32");
  CHECK(file.at("huge.positions").type == "I64");
  CHECK(file.at("conv.weight.delta").type == "F32");
  CHECK(file.at("double.delta").type == "F64");
  auto const about = json::parse(file.metadata("tensors"));
  CHECK(about["attention.q.weight"] == json{{"shape", {8, 6}}, {"dtype", "float32"}, {"base", "fedcba9876543210"}});
}

TEST_CASE("an empty adapter") {
  scratch const folder;
  sara::save({}, folder / "a");
  CHECK(sara::load_adapter(folder / "a").tensors.empty());
}

TEST_CASE("a file cut short at any length, or with any bit turned, is refused or read, never worse") {
  scratch const folder;
  sara::save(sample(), folder / "whole");
  auto const whole = sara::test::read_file(folder / "whole");
  auto const path = folder / "damaged";
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    sara::test::write_file(path, whole.substr(0, length));
    CHECK(complaint<sara::file_error>([&] { static_cast<void>(sara::load_adapter(path)); }, {path.string()}) == "");
  }
  int refused = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    CAPTURE(i);
    auto damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << i % 7));
    sara::test::write_file(path, damaged);
    try {
      for (auto const& [name, tensor] : sara::load_adapter(path).tensors)
        for (auto const p : tensor.positions) CHECK((p >= 0 && p < tensor.shape.product()));
    } catch (sara::file_error const& e) {
      CHECK(std::string(e.what()).find(path.string()) != std::string::npos);
      ++refused;
    }
  }
  CHECK(refused > 500);  // of the header, nearly all
}

TEST_CASE("a forged file is refused with a sentence") {
  forged f;
  CHECK(f.refused("") == "expected an exception, got none");  // as it stands it is an adapter

  SUBCASE("format") {
    f.format = "sara.state";
    CHECK(f.refused("expected format 'sara.adapter', got 'sara.state'") == "");
  }
  SUBCASE("version") {
    f.format_version = "2";
    CHECK(f.refused("expected format version 1, got 2") == "");
  }
  SUBCASE("positions out of order, twice, or outside") {
    f.positions = {5, 3};
    CHECK(f.refused("positions from 0 and below 20, got 3 after 5") == "");
    f.positions = {3, 3};
    CHECK(f.refused("got 3 after 3") == "");
    f.positions = {3, 20};
    CHECK(f.refused("got 20 after 3") == "");
    f.positions = {-1, 3};
    CHECK(f.refused("got -1") == "");
  }
  SUBCASE("delta") {
    f.delta[1] = std::numeric_limits<float>::quiet_NaN();
    CHECK(f.refused("'w': expected finite values, got nan") == "");
    f.delta[1] = std::numeric_limits<float>::infinity();
    CHECK(f.refused("'w': expected finite values, got inf") == "");
    f.delta = {1};
    CHECK(f.refused("expected 2 elements, got 1") == "");
  }
  SUBCASE("dtype") {
    f.about["w"]["dtype"] = "float8";
    CHECK(f.refused("'w': expected a dtype, got 'float8'") == "");
    f.about["w"]["dtype"] = 32;
    CHECK(f.refused("expected a description") == "");
    f.about["w"]["dtype"] = "float64";  // whose delta would be F64
    CHECK(f.refused("expected F64 elements, got F32") == "");
  }
  SUBCASE("hash") {
    for (auto const* hash :
         {"", "ff", "00000000000000fg", "0x000000000000ff", "+00000000000000f", "00000000000000ff0"}) {
      f.about["w"]["base"] = hash;
      CHECK(f.refused(std::string("expected a hash of 16 hexadecimal digits, got '") + hash + "'") == "");
    }
    f.about["w"]["base"] = 255;
    CHECK(f.refused("expected a description") == "");
  }
  SUBCASE("shape") {
    f.about["w"]["shape"] = {4, -5};
    CHECK(f.refused("expected extents from 0 to 9223372036854775807, got -5") == "");
    for (json const& no_count : {json(5.0), json(1e300), json(std::uint64_t{1} << 63), json("five"), json(true)}) {
      f.about["w"]["shape"] = {4, no_count};
      CHECK(f.refused("expected extents from 0 to 9223372036854775807, got " + no_count.dump()) == "");
    }
    f.about["w"]["shape"] = {1, 1, 1, 1, 1, 1, 1, 4, 5};
    CHECK(f.refused("at most 8 extents") == "");
    f.about["w"]["shape"] = {std::int64_t{1} << 40, std::int64_t{1} << 40};
    CHECK(f.refused("a size of 63 bits") == "");
    for (json const& wrong : {json("4x5"), json(20), json()}) {
      f.about["w"]["shape"] = wrong;
      CHECK(f.refused("expected a list of extents, got " + wrong.dump()) == "");
    }
    f.about["w"]["shape"] = json::object({{"rows", 20}});
    CHECK(f.refused("expected a list of extents, got object") == "");
    f.about["w"]["shape"] = {3, 5};  // position 19 lies outside
    CHECK(f.refused("below 15, got 19") == "");
  }
  SUBCASE("description") {
    f.about["w"].erase("base");
    CHECK(f.refused("expected a description") == "");
    f.about = json{{"v", {{"shape", {4, 5}}, {"dtype", "float32"}, {"base", "00000000000000ff"}}}};
    CHECK(f.refused("expected a tensor 'v.positions'") == "");
    f.about = json::object();
    CHECK(f.refused("for 0 tensors, got 2 entries") == "");
    f.about = json::array({1});
    CHECK(f.refused("expected positions and delta") == "");
    f.about = "w";
    CHECK(f.refused("expected positions and delta") == "");
  }
}

TEST_CASE("a description that is not JSON, or is missing") {
  scratch const folder;
  sara::safetensors_writer file;
  file.set_metadata("format", "sara.adapter");
  file.set_metadata("format_version", "1");
  auto const refused = [&](std::string const& part) {
    file.write(folder / "a");
    return complaint<sara::file_error>([&] { static_cast<void>(sara::load_adapter(folder / "a")); }, {part});
  };
  CHECK(refused("expected metadata 'tensors'") == "");
  file.set_metadata("tensors", "{");
  CHECK(refused("expected a description of the adapter's tensors") == "");
  file.set_metadata("tensors", R"({"w": {}, "w": {}})");
  CHECK(refused("expected each name once, got 'w' twice") == "");
}

TEST_CASE("a description that is a million lists deep") {
  scratch const folder;
  forged f;
  std::string const deep = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  for (std::string const& about : {deep, R"({"w": )" + deep + "}", R"({"w": {"shape": )" + deep + "}}",
                                   R"({"w": {"shape": [4, )" + deep + "]}}"}) {
    sara::safetensors_writer file;
    file.add("w.positions", f.positions);
    file.add("w.delta", f.delta);
    file.set_metadata("format", f.format);
    file.set_metadata("format_version", f.format_version);
    file.set_metadata("tensors", about);
    file.write(folder / "a");
    CHECK(complaint<sara::file_error>([&] { static_cast<void>(sara::load_adapter(folder / "a")); }, {"expected"}) ==
          "");
  }
}

TEST_CASE("what training lost to NaN is not saved over a good file") {
  scratch const folder;
  auto const path = folder / "a";
  sara::save(sample(), path);
  auto lost = sample();
  std::get<std::vector<float>>(lost.tensors.at("scalar").delta)[0] = std::numeric_limits<float>::quiet_NaN();
  CHECK(complaint<sara::value_error>([&] { sara::save(lost, path); }, {"'scalar'", "finite"}) == "");
  lost = sample();
  lost.tensors.at("scalar").positions.back() = 1;
  CHECK(complaint<sara::value_error>([&] { sara::save(lost, path); }, {"'scalar'", "below 1"}) == "");
  CHECK(sara::load_adapter(path).count() == sample().count());
}

TEST_CASE("a name that is not UTF-8 is not saved") {
  scratch const folder;
  auto a = sample();
  a.tensors["no \xff UTF-8"] = a.tensors.at("scalar");
  CHECK(complaint<sara::file_error>([&] { sara::save(a, folder / "a"); }, {(folder / "a").string(), "UTF-8"}) == "");
  CHECK_FALSE(std::filesystem::exists(folder / "a"));
}

TEST_CASE("no file, and no folder to write into") {
  scratch const folder;
  CHECK(complaint<sara::file_error>([&] { static_cast<void>(sara::load_adapter(folder / "none")); }, {"none"}) == "");
  CHECK(complaint<sara::file_error>([&] { sara::save(sample(), folder / "no" / "a"); }, {"no/a"}) == "");
}
