// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <doctest/doctest.h>

#include <bit>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <sara/io/safetensors.hpp>

#include "../support/compare.hpp"
#include "../support/golden.hpp"
#include "../support/random.hpp"
#include "../support/scratch.hpp"

namespace {

using sara::safetensors;
using sara::test::complaint;
using sara::test::read_file;
using sara::test::scratch;
using sara::test::write_file;

/// A file with any header and data, true or not.
std::string file_of(std::string const& header, std::string const& data) {
  auto const length = static_cast<std::uint64_t>(header.size());
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

/// What load says about these bytes; empty if it is a file_error that names the file and holds `problem`.
std::string refusal(std::string const& bytes, std::string const& problem) {
  scratch const folder;
  auto const path = folder / "hostile.safetensors";
  write_file(path, bytes);
  return complaint<sara::file_error>([&] { return safetensors::load(path); }, {path.string(), problem});
}

template <class T>
std::vector<T> some_values() {
  using limits = std::numeric_limits<T>;
  return {T{1}, T{2}, T{3}, limits::max(), limits::lowest(), T{0}};
}
template <>
std::vector<sara::float16> some_values() {
  return sara::test::uniform<sara::float16>("float16", 6);
}
template <>
std::vector<sara::bfloat16> some_values() {
  return sara::test::uniform<sara::bfloat16>("bfloat16", 6);
}

/// A small file of two tensors and metadata.
std::string small_file() {
  scratch const folder;
  sara::safetensors_writer out;
  out.add("w", std::vector<float>{1, 2, 3});
  out.add("half", sara::test::uniform<sara::float16>("small", 5));
  out.set_metadata("step", "7");
  out.write(folder / "small");
  return read_file(folder / "small");
}

/// Lets files of this process grow no further than `bytes`, as a full disk would.
class file_size_limit {
 public:
  explicit file_size_limit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    rlimit const now{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~file_size_limit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  file_size_limit(file_size_limit const&) = delete;
  file_size_limit& operator=(file_size_limit const&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

/// Files and folders in a folder.
std::ptrdiff_t entries_of(std::filesystem::path const& folder) {
  auto const all = std::filesystem::directory_iterator{folder};
  return std::distance(begin(all), end(all));
}

}  // namespace

TEST_CASE("tensors and metadata come back") {
  scratch const folder;
  auto const path = folder / "model.safetensors";
  // [round_trip]
  std::vector<float> const weight{1, 2, 3, 4, 5, 6};
  sara::safetensors_writer out;
  out.add<float>("layer.weight", weight, {2, 3});
  out.set_metadata("step", "100");
  out.write(path);

  auto const in = sara::safetensors::load(path);
  auto const again = in.read<float>("layer.weight");
  auto const shape = in.at("layer.weight").shape;
  // [/round_trip]
  CHECK(again == weight);
  CHECK(shape == std::vector<std::int64_t>{2, 3});
  CHECK(in.metadata("step") == "100");
  CHECK(in.metadata().size() == 1);
  CHECK(in.path() == path.string());
  CHECK(in.contains("layer.weight"));
  CHECK_FALSE(in.contains("layer.bias"));
}

TEST_CASE_TEMPLATE("every element type comes back bit by bit", T, double, float, sara::bfloat16, sara::float16,
                   std::int64_t, std::int32_t, std::uint64_t, std::uint32_t, std::uint16_t, std::uint8_t) {
  scratch const folder;
  auto const values = some_values<T>();
  sara::safetensors_writer out;
  out.add<T>("x", values, {3, 2});
  out.write(folder / "x");
  auto const in = safetensors::load(folder / "x");
  CHECK(in.at("x").type == sara::stored_name<T>);
  CHECK(in.read<T>("x") == values);
  CHECK(in.read<T>("x", 6).size() == 6);
}

TEST_CASE("booleans are bytes") {
  scratch const folder;
  bool const values[] = {true, false, true};
  sara::safetensors_writer out;
  out.add<bool>("mask", values, {3});
  out.write(folder / "mask");
  CHECK(safetensors::load(folder / "mask").read<bool>("mask") == std::vector<bool>{true, false, true});
}

TEST_CASE("NaN keeps its payload") {
  scratch const folder;
  std::vector<float> const values{std::bit_cast<float>(0x7fc12345u), std::bit_cast<float>(0xff812345u)};
  sara::safetensors_writer out;
  out.add("x", values);
  out.write(folder / "x");
  auto const in = safetensors::load(folder / "x");
  // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): the bits of NaNs, which are not equal as values
  CHECK(std::memcmp(in.at("x").bytes.data(), values.data(), 8) == 0);
}

TEST_CASE("scalars, empty tensors and empty files") {
  scratch const folder;
  sara::safetensors_writer out;
  CHECK(out.write(folder / "none") == 16);
  CHECK(safetensors::load(folder / "none").tensors().empty());

  std::vector<double> const one{2.5};
  out.add<double>("scalar", one, {});
  out.add<float>("empty", {}, {0, 3});
  out.write(folder / "few");
  auto const in = safetensors::load(folder / "few");
  CHECK(in.at("scalar").shape.empty());
  CHECK(in.read<double>("scalar") == one);
  CHECK(in.at("empty").shape == std::vector<std::int64_t>{0, 3});
  CHECK(in.read<float>("empty").empty());
}

TEST_CASE("elements are aligned in the file, whatever the order of adding") {
  scratch const folder;
  sara::safetensors_writer out;
  out.add("a", std::vector<std::uint8_t>{1, 2, 3});
  out.add("b", std::vector<double>{1, 2});
  out.add("c", sara::test::uniform<sara::float16>("c", 3));
  out.add("d", std::vector<float>{1});
  auto const bytes = out.write(folder / "x");
  auto const file = read_file(folder / "x");
  CHECK(static_cast<std::int64_t>(file.size()) == bytes);
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  CHECK(header % 8 == 0);

  auto const in = safetensors::load(folder / "x");
  auto const* first = in.at("b").bytes.data();  // the widest type
  CHECK((in.at("d").bytes.data() - first) % 4 == 0);
  CHECK((in.at("c").bytes.data() - first) % 2 == 0);
  CHECK(in.at("d").bytes.data() - first == 16);
}

TEST_CASE("bytes in memory are those of the file, and are read as it is") {
  scratch const folder;
  sara::safetensors_writer writer;
  writer.add("a", std::vector<float>{1, 2, 3});
  writer.add("b", std::vector<std::int64_t>{-4});
  writer.set_metadata("key", "value");
  writer.write(folder / "file");
  auto const bytes = writer.bytes();
  auto const in_file = read_file(folder / "file");
  REQUIRE(bytes.size() == in_file.size());
  CHECK(std::memcmp(bytes.data(), in_file.data(), bytes.size()) == 0);
  auto const file = safetensors::of(bytes, "memory");
  CHECK(file.path() == "memory");
  CHECK(file.read<float>("a") == std::vector<float>{1, 2, 3});
  CHECK(file.read<std::int64_t>("b") == std::vector<std::int64_t>{-4});
  CHECK(file.metadata("key") == "value");
  CHECK(complaint<sara::file_error>(
            [&] {
              return safetensors::of({bytes.begin(), bytes.end() - 1}, "memory");
            },
            {"memory"}) == "");
}

TEST_CASE("what a file does not have") {
  auto const& file = sara::test::golden("selection.safetensors");
  CHECK(complaint<sara::file_error>([&] { return file.at("nothing"); }, {file.path(), "'nothing'"}) == "");
  CHECK(complaint<sara::file_error>([&] { return file.metadata("nothing"); }, {file.path(), "'nothing'"}) == "");
  CHECK(complaint<sara::file_error>([&] { return file.read<float>("thetas"); },
                                    {file.path(), "expected F32", "got F64"}) == "");
  CHECK(complaint<sara::file_error>([&] { return file.read<double>("thetas", 6); },
                                    {file.path(), "expected 6", "got 5"}) == "");
  scratch const folder;
  CHECK(complaint<sara::file_error>([&] { return safetensors::load(folder / "none"); }, {(folder / "none").string()}) ==
        "");
  CHECK(complaint<sara::file_error>([&] { return safetensors::load(folder / ""); }, {(folder / "").string()}) == "");
}

TEST_CASE("a loaded file moves with its tensors and is not copied") {
  static_assert(std::is_nothrow_move_constructible_v<safetensors> && !std::is_copy_constructible_v<safetensors>);
  scratch const folder;
  write_file(folder / "x", small_file());
  auto first = safetensors::load(folder / "x");
  auto const second = std::move(first);
  CHECK(second.read<float>("w") == std::vector<float>{1, 2, 3});
}

TEST_CASE("what the writer refuses") {
  sara::safetensors_writer out;
  std::vector<float> const values(6);
  out.add("w", values);
  CHECK(complaint<sara::name_error>([&] { out.add("w", values); }, {"'w' twice"}) == "");
  CHECK(complaint<sara::name_error>([&] { out.add("__metadata__", values); }, {"__metadata__"}) == "");
  CHECK(complaint<sara::shape_error>(
            [&] {
              out.add<float>("v", values, {2, 4});
            },
            {"'v'", "expected 8", "got 6"}) == "");
  CHECK(complaint<sara::shape_error>(
            [&] {
              out.add<float>("v", values, {-2, -3});
            },
            {"'v'", "at least 0", "got -2"}) == "");
  scratch const folder;
  out.add("no \xff UTF-8", values);
  CHECK(complaint<sara::file_error>([&] { out.write(folder / "x"); }, {(folder / "x").string(), "UTF-8"}) == "");
  CHECK_FALSE(std::filesystem::exists(folder / "x"));
}

TEST_CASE("a failed write leaves the old file and nothing else") {
  scratch const folder;
  auto const path = folder / "x";
  sara::safetensors_writer before;
  before.add("w", std::vector<float>{1, 2});
  before.write(path);
  sara::safetensors_writer after;
  after.add("w", std::vector<float>(100'000));

  SUBCASE("the disk is full") {
    file_size_limit const full{65536};
    CHECK(complaint<sara::file_error>([&] { after.write(path); }, {path.string(), "File too large"}) == "");
    CHECK(entries_of(folder / "") == 1);
  }
  SUBCASE("the temporary file cannot be opened") {
    CHECK(complaint<sara::file_error>([&] { after.write(folder / "none" / "x"); },
                                      {(folder / "none").string(), "No such file"}) == "");
  }
  SUBCASE("what has the name is no file") {
    std::filesystem::create_directories(folder / "taken" / "by_a_folder");
    CHECK(complaint<sara::file_error>([&] { after.write(folder / "taken"); }, {"taken", "got something else"}) == "");
    CHECK(complaint<sara::file_error>([&] { after.write("/dev/null"); }, {"/dev/null", "got something else"}) == "");
    CHECK(entries_of(folder / "") == 2);
  }
  CHECK(safetensors::load(path).read<float>("w") == std::vector<float>{1, 2});
}

TEST_CASE("a write replaces the old file") {
  scratch const folder;
  sara::safetensors_writer out;
  out.write(folder / "x");
  out.add("w", std::vector<float>{3});
  out.write(folder / "x");
  CHECK(safetensors::load(folder / "x").read<float>("w") == std::vector<float>{3});
  CHECK(entries_of(folder / "") == 1);
}

TEST_CASE("a link that leads nowhere is refused") {
  scratch const folder;
  std::filesystem::create_symlink("there", folder / "here");
  std::filesystem::create_symlink("here", folder / "there");
  sara::safetensors_writer out;
  out.add("a", std::vector<float>{1});
  CHECK(complaint<sara::file_error>([&] { out.write(folder / "here"); }, {"here", "leads nowhere"}) == "");
}

TEST_CASE("a write through a link replaces what it leads to") {
  scratch const folder;
  sara::safetensors_writer out;
  out.write(folder / "x");
  std::filesystem::create_symlink("x", folder / "link");
  out.add("w", std::vector<float>{3});
  out.write(folder / "link");
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(safetensors::load(folder / "x").read<float>("w") == std::vector<float>{3});
}

TEST_CASE("a file cut at any length is refused, and so is one that goes on") {
  auto const whole = small_file();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    CHECK(refusal(whole.substr(0, n), "expected") == "");
  }
  CHECK(refusal(whole + '\0', "expected") == "");
}

TEST_CASE("a file with any byte changed is read or refused, never worse") {
  auto const whole = small_file();
  scratch const folder;
  auto const path = folder / "x";
  int refused = 0;
  for (std::size_t i = 0; i < whole.size(); ++i)
    for (char const byte : {'\0', '\xff', '"', '9', '[', '-'}) {
      auto changed = whole;
      changed[i] = byte;
      write_file(path, changed);
      try {
        auto const in = safetensors::load(path);
        for (auto const& [name, tensor] : in.tensors()) CHECK(tensor.bytes.size() <= whole.size());
      } catch (sara::file_error const&) {
        ++refused;
      }
    }
  CHECK(refused > static_cast<int>(whole.size()));
}

TEST_CASE("hostile headers") {
  std::string const eight(8, 'x');
  auto const with_header_length = [](std::uint64_t length) {
    std::string bytes(16, ' ');
    std::memcpy(bytes.data(), &length, sizeof length);
    return bytes;
  };
  CHECK(refusal(with_header_length(9), "got a length of 9") == "");
  CHECK(refusal(with_header_length(~std::uint64_t{0}), "got a length of 18446744073709551615") == "");
  CHECK(refusal(with_header_length(std::uint64_t{1} << 63), "got a length of 9223372036854775808") == "");

  CHECK(refusal(file_of("", ""), "safetensors header") == "");
  CHECK(refusal(file_of("no JSON", ""), "safetensors header") == "");
  CHECK(refusal(file_of("{\"\xff\": 1}", ""), "safetensors header") == "");
  CHECK(refusal(file_of("[]", ""), "JSON object") == "");
  CHECK(refusal(file_of("null", ""), "JSON object") == "");
  CHECK(refusal(file_of(std::string(100'000, '['), ""), "safetensors header") == "");
  CHECK(refusal(file_of(std::string(100'000, '[') + std::string(100'000, ']'), ""), "JSON object") == "");
  std::string deep = "{\"w\": ";
  for (int i = 0; i < 10'000; ++i) deep += "{\"w\": ";
  CHECK(refusal(file_of(deep + "1" + std::string(10'001, '}'), ""), "expected") == "");

  CHECK(refusal(file_of(R"({"__metadata__": {"a": 1}})", ""), "safetensors header") == "");
  CHECK(refusal(file_of(R"({"w": 1})", ""), "safetensors header") == "");
  CHECK(refusal(file_of(R"({"w": {}})", ""), "safetensors header") == "");
  CHECK(refusal(file_of(R"({"w": {"dtype": "F64", "shape": [1]}})", eight), "data_offsets") == "");
}

TEST_CASE("hostile tensors") {
  auto const tensor = [](std::string const& type, std::string const& shape, std::string const& offsets) {
    return R"({"dtype": ")" + type + R"(", "shape": )" + shape + R"(, "data_offsets": )" + offsets + "}";
  };
  auto const one = [&](std::string const& type, std::string const& shape, std::string const& offsets) {
    return file_of("{\"w\": " + tensor(type, shape, offsets) + "}", std::string(8, 'x'));
  };
  CHECK(refusal(one("F32", "[2]", "[0, 8]"), "") == "expected an exception, got none");

  CHECK(refusal(one("F31", "[2]", "[0, 8]"), "'F31'") == "");
  CHECK(refusal(one("F64", "[2]", "[0, 8]"), "'w': expected 16 bytes") == "");
  CHECK(refusal(one("F32", "[1]", "[0, 8]"), "'w': expected 4 bytes") == "");
  CHECK(refusal(one("F32", "[-2]", "[0, 8]"), "got -2") == "");
  CHECK(refusal(one("F32", "[2.0]", "[0, 8]"), "got 2.0") == "");
  CHECK(refusal(one("F32", "[\"2\"]", "[0, 8]"), "'w'") == "");
  CHECK(refusal(one("F32", "[[2]]", "[0, 8]"), "'w'") == "");
  CHECK(refusal(one("F32", "2", "[0, 8]"), "'w': expected a list of extents, got 2") == "");
  CHECK(refusal(one("F64", "null", "[0, 8]"), "'w': expected a list of extents, got null") == "");
  CHECK(refusal(one("F64", "{}", "[0, 8]"), "'w': expected a list of extents, got object") == "");

  CHECK(refusal(one("F32", "[18446744073709551615]", "[0, 8]"), "'w'") == "");
  CHECK(refusal(one("F32", "[4611686018427387906]", "[0, 8]"), "'w'") == "");  // times 4 is 8 in 64 bits
  CHECK(refusal(one("U8", "[8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]", "[0, 8]"), "'w'") ==
        "");
  CHECK(refusal(one("F32", "[18446744073709551616]", "[0, 8]"), "'w'") == "");

  CHECK(refusal(one("F32", "[2]", "[0, 9]"), "got offsets 0 to 9") == "");
  CHECK(refusal(one("F32", "[2]", "[8, 0]"), "got offsets 8 to 0") == "");
  CHECK(refusal(one("F32", "[2]", "[18446744073709551608, 0]"), "got offsets 18446744073709551608") == "");
  CHECK(refusal(one("F32", "[2]", "[-8, 0]"), "data offsets") == "");
  CHECK(refusal(one("F32", "[2]", "[0]"), "data offsets") == "");
  CHECK(refusal(one("F32", "[2]", "[0, 8, 8]"), "data offsets") == "");
  CHECK(refusal(one("F32", "[2]", "8"), "data offsets") == "");
  CHECK(refusal(one("F32", "[1]", "[4, 8]"), "gaps") == "");
  CHECK(refusal(one("F32", "[1]", "[0, 4]"), "bytes, got") == "");

  auto const two = [&](std::string const& a, std::string const& b) {
    return file_of("{\"a\": " + a + ", \"b\": " + b + "}", std::string(8, 'x'));
  };
  CHECK(refusal(two(tensor("F32", "[2]", "[0, 8]"), tensor("F32", "[1]", "[4, 8]")), "overlaps") == "");
  CHECK(refusal(two(tensor("U8", "[3]", "[0, 3]"), tensor("U8", "[4]", "[4, 8]")), "gaps") == "");
  CHECK(refusal(two(tensor("U8", "[8]", "[0, 8]"), tensor("U8", "[8]", "[0, 8]")), "overlaps") == "");
  auto const twice =
      file_of("{\"a\": " + tensor("U8", "[4]", "[0, 4]") + ", \"a\": " + tensor("U8", "[4]", "[4, 8]") + "}",
              std::string(8, 'x'));
  CHECK(refusal(twice, "each name once, got 'a' twice") == "");
  CHECK(refusal(file_of(R"({"": 1, "": 1})", ""), "each name once, got '' twice") == "");
}
