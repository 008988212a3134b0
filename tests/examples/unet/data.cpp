// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <stb/stb_image_write.h>

#include <Eigen/Geometry>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "dataset.hpp"
#include "evaluate.hpp"
#include "picture.hpp"
#include "tests/support/compare.hpp"
#include "tokens.hpp"

namespace {

namespace fs = std::filesystem;

using sara::test::complaint;

fs::path const shipped = UNET_DATA;

/// A folder that is gone at the end of the test.
struct temporary_folder {
  fs::path path = fs::temp_directory_path() / ("unet-data-" + std::to_string(std::random_device{}()));
  temporary_folder() { fs::create_directory(path); }
  temporary_folder(temporary_folder const&) = delete;
  temporary_folder& operator=(temporary_folder const&) = delete;
  ~temporary_folder() { fs::remove_all(path); }

  void write(std::string const& name, std::string const& text) const { std::ofstream{path / name} << text; }

  /// A picture of one colour.
  void paint(std::string const& name, int width, int height, std::array<std::uint8_t, 4> rgba) const {
    std::vector<std::uint8_t> pixels;
    for (int i = 0; i < width * height; ++i) pixels.insert(pixels.end(), rgba.begin(), rgba.end());
    REQUIRE(stbi_write_png((path / name).string().c_str(), width, height, 4, pixels.data(), 0) != 0);
  }
};

unet::image_rows normal_rows(int n, int d, unsigned seed) {
  std::mt19937 random{seed};
  std::normal_distribution<float> normal;
  unet::image_rows rows(n, d);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < d; ++j) rows(i, j) = normal(random);
  return rows;
}

}  // namespace

TEST_CASE("the list of emoji has 1,391 rows, 70 of them held out") {
  auto const index = unet::read_emoji_index(shipped / "emoji.json");
  CHECK(index.rows.size() == 1391);
  CHECK(index.labels.size() == unet::class_count);
  CHECK(std::count_if(index.rows.begin(), index.rows.end(), [](auto const& row) { return row.held_out; }) == 70);
  std::set<int> labels;
  for (auto const& row : index.rows) labels.insert(row.label);
  CHECK(labels.size() == unet::class_count);
}

TEST_CASE("sheets give the pictures that emoji.json lists for a style") {
  auto const index = unet::read_emoji_index(shipped / "emoji.json");
  for (std::string const style : {"noto", "blob", "fluent-flat", "fluent-3d", "fluent-high-contrast", "twemoji"}) {
    CAPTURE(style);
    auto const data = unet::load_sheets(shipped, {style});
    std::size_t drawn = 0, held_out = 0;
    for (auto const& row : index.rows) {
      if (!row.drawn_in(style)) continue;
      ++drawn;
      held_out += row.held_out ? 1U : 0U;
    }
    CHECK(data.size() == drawn);
    CHECK(data.held_out.size() == held_out);
    CHECK(data.train.size() == drawn - held_out);
    CHECK(data.images.size() == drawn * unet::image_size);
    CHECK(*std::min_element(data.images.begin(), data.images.end()) >= -1.0F);
    CHECK(*std::max_element(data.images.begin(), data.images.end()) == 1.0F);
  }
}

TEST_CASE("pictures of several styles follow each other and stay on their side of the split") {
  auto const index = unet::read_emoji_index(shipped / "emoji.json");
  auto const data = unet::load_sheets(shipped, {"blob", "noto"});
  CHECK(data.size() == 1082 + 1391);
  CHECK(data.style[1081] == 0);
  CHECK(data.style[1082] == 1);
  std::set<std::string> held_out;
  for (auto const& row : index.rows)
    if (row.held_out) held_out.insert(row.name);
  for (auto const i : data.train) CHECK_FALSE(held_out.contains(data.name[i]));
  for (auto const i : data.held_out) CHECK(held_out.contains(data.name[i]));
  // A red heart is red: the cells, the colours and the channel order are where they should be.
  auto const heart = std::find(data.name.begin() + 1082, data.name.end(), "red heart") - data.name.begin();
  auto const image = data.image(static_cast<std::size_t>(heart));
  std::size_t const centre = 14 * 32 + 16;
  CHECK(image[centre] > 0.5F);
  CHECK(image[1024 + centre] < 0.0F);
  CHECK(image[2048 + centre] < 0.0F);
  CHECK(data.labels[static_cast<std::size_t>(data.label[static_cast<std::size_t>(heart)])] == "heart");
}

TEST_CASE("words are runs of ASCII letters and digits in lower case") {
  using words = std::vector<std::string>;
  CHECK(unet::split_words("Cat-Face: o’clock 12") == words{"cat", "face", "o", "clock", "12"});
  CHECK(unet::split_words("--").empty());
  CHECK(unet::split_words("").empty());
}

TEST_CASE("a vocabulary keeps frequent words first and ties in alphabetical order") {
  std::vector<std::string> const texts{"red heart heart", "blue heart", "red cat", "blue dog", "Zebra"};
  auto const words = unet::vocabulary::of(texts);
  CHECK(words.words() == std::vector<std::string>{"blue", "heart", "red"});
  CHECK(unet::vocabulary::of(texts, 1, 4).words() == std::vector<std::string>{"blue", "heart", "red", "cat"});
  CHECK(words.tokens("a red, RED heart") == std::vector<int>{2, 1});
  CHECK(words.tokens("unknown").empty());
  CHECK(unet::vocabulary{words.words()}.tokens("blue heart") == words.tokens("blue heart"));
  CHECK(complaint<std::exception>([] { unet::vocabulary{{"a", "b", "a"}}; }, {"got 'a' twice"}) == "");
}

TEST_CASE("tokens of the emoji are the same each time and never more than twelve") {
  auto data = unet::load_sheets(shipped, {"noto", "twemoji"});
  auto const words = unet::vocabulary::of(data.training_texts());
  CHECK(words.size() == 1401);
  CHECK(words.words() == unet::vocabulary::of(data.training_texts()).words());
  data.tokenize(words);
  for (auto const i : data.train) {
    CHECK_FALSE(data.tokens[i].empty());
    CHECK(data.tokens[i].size() <= unet::vocabulary::max_tokens);
  }
  std::string many;
  for (int i = 0; i < 20; ++i) many += words.words()[static_cast<std::size_t>(i)] + ' ';
  CHECK(words.tokens(many).size() == 12);
}

TEST_CASE("a folder with metadata.jsonl gives captioned pictures") {
  temporary_folder const folder;
  folder.paint("red.png", 64, 64, {255, 0, 0, 255});
  folder.paint("clear.png", 32, 32, {0, 0, 0, 0});
  folder.paint("wide.png", 100, 50, {0, 0, 0, 255});
  std::string lines = R"({"file_name": "red.png", "text": "a red square", "label": 3})"
                      "\n\n"
                      R"({"file_name": "clear.png", "held_out": true})"
                      "\r\n"
                      R"({"file_name": "wide.png", "text": "a bar", "label": "bar"})"
                      "\n";
  for (int i = 3; i < 41; ++i)
    lines += R"({"file_name": "red.png"})"
             "\n";
  folder.write("metadata.jsonl", lines);
  auto const data = unet::load_folder(folder.path, {"square", "bar"});
  REQUIRE(data.size() == 41);
  CHECK(data.held_out == std::vector<std::size_t>{1, 19, 39});
  CHECK(data.train.size() == 38);
  CHECK(data.text[0] == "a red square");
  CHECK(data.label[0] == 3);
  CHECK(data.label[1] == unet::null_class);
  CHECK(data.label[2] == 1);
  auto const red = data.image(0);
  CHECK(std::all_of(red.begin(), red.begin() + 1024, [](float x) { return x == 1.0F; }));
  CHECK(std::all_of(red.begin() + 1024, red.end(), [](float x) { return x == -1.0F; }));
  auto const clear = data.image(1);
  CHECK(std::all_of(clear.begin(), clear.end(), [](float x) { return x == 1.0F; }));
  auto const wide = data.image(2);  // 32×16 in the middle, white above and below
  CHECK(wide[7 * 32 + 16] == 1.0F);
  CHECK(wide[8 * 32] == -1.0F);
  CHECK(wide[23 * 32 + 31] == -1.0F);
  CHECK(wide[24 * 32 + 16] == 1.0F);
}

TEST_CASE("errors of folders say what is wrong and where") {
  temporary_folder const folder;
  auto const refused = [&](std::string const& part) {
    return complaint<std::exception>([&] { (void)unet::load_folder(folder.path, {"square"}); }, {part});
  };
  CHECK(refused("metadata.jsonl: expected one JSON object a line, got no readable file") == "");
  folder.write("metadata.jsonl", "\n");
  CHECK(refused("expected at least one picture, got none") == "");
  folder.paint("red.png", 8, 8, {255, 0, 0, 255});
  std::string const good = R"({"file_name": "red.png"})"
                           "\n";
  folder.write("metadata.jsonl", good + "{\"file_name\": ");
  CHECK(refused("metadata.jsonl line 2: ") == "");
  folder.write("metadata.jsonl", R"({"text": "no file"})");
  CHECK(refused("file_name") == "");
  folder.write("metadata.jsonl", R"({"file_name": "gone.png"})");
  CHECK(refused("gone.png: expected a picture") == "");
  folder.write("metadata.jsonl", R"({"file_name": "red.png", "label": 32})");
  CHECK(refused("expected \"label\" in [0, 31], got 32") == "");
  folder.write("metadata.jsonl", R"({"file_name": "red.png", "label": "circle"})");
  CHECK(refused("got \"circle\"") == "");
}

TEST_CASE("errors of sheets say what is wrong and where") {
  temporary_folder const folder;
  auto const refused = [&](std::string const& part) {
    return complaint<std::exception>([&] { (void)unet::load_sheets(folder.path, {"noto"}); }, {part});
  };
  CHECK(refused("emoji.json: expected the list of emoji, got no readable file") == "");
  folder.write("emoji.json", R"({"cell": 32})");
  CHECK(refused("columns") == "");
  folder.write("emoji.json", R"({"cell": 16, "columns": 40, "labels": ["a"], "emoji": []})");
  CHECK(refused("got cells of 16") == "");
  fs::remove(folder.path / "emoji.json");
  fs::copy_file(shipped / "emoji.json", folder.path / "emoji.json");
  CHECK(refused("noto.png: expected the sheet of style noto, got no such file; examples/unet/fetch") == "");
  folder.paint("noto.png", 64, 32, {0, 0, 0, 255});
  CHECK(refused("expected a sheet of 1280x1120 pixels, got 64x32") == "");
}

TEST_CASE("the Fréchet distance of Gaussians is the closed form") {
  unet::gaussian const unit{Eigen::VectorXd::Zero(3), Eigen::MatrixXd::Identity(3, 3)};
  CHECK(unet::frechet_distance(unit, unit) == doctest::Approx(0.0).epsilon(1e-12));
  unet::gaussian const shifted{Eigen::Vector3d{1, 2, 2}, Eigen::MatrixXd::Identity(3, 3)};
  CHECK(unet::frechet_distance(unit, shifted) == doctest::Approx(9.0));
  // Diagonal covariances: the sum of (σ₁ − σ₂)².
  unet::gaussian const a{Eigen::VectorXd::Zero(3), Eigen::Vector3d{1, 4, 9}.asDiagonal()};
  unet::gaussian const b{Eigen::VectorXd::Zero(3), Eigen::Vector3d{16, 4, 0}.asDiagonal()};
  CHECK(unet::frechet_distance(a, b) == doctest::Approx(9.0 + 0.0 + 9.0));
  // A rotation of both changes nothing, though the covariances are then full; neither does the order.
  Eigen::Matrix3d const turn = Eigen::AngleAxisd{0.7, Eigen::Vector3d{1, 2, 3}.normalized()}.toRotationMatrix();
  unet::gaussian const ta{turn * Eigen::Vector3d{1, 0, 0}, turn * a.covariance * turn.transpose()};
  unet::gaussian const tb{turn * Eigen::Vector3d{0, 0, 0}, turn * b.covariance * turn.transpose()};
  CHECK(unet::frechet_distance(ta, tb) == doctest::Approx(19.0));
  CHECK(unet::frechet_distance(tb, ta) == doctest::Approx(19.0));
  unet::gaussian const flat{Eigen::VectorXd::Zero(2), Eigen::MatrixXd::Identity(2, 2)};
  CHECK(complaint<std::exception>([&] { (void)unet::frechet_distance(unit, flat); }, {"got 3 and 2"}) == "");
}

TEST_CASE("a Gaussian fitted to samples approaches the one they were drawn from") {
  unet::image_rows rows = normal_rows(20000, 4, 1);
  rows.col(1) = 0.5F * rows.col(0) + 2.0F * rows.col(1);
  rows.col(3).array() += 3.0F;
  auto const fitted = unet::fit_gaussian(rows);
  CHECK(fitted.mean(3) == doctest::Approx(3.0).epsilon(0.02));
  CHECK(fitted.covariance(1, 1) == doctest::Approx(4.25).epsilon(0.04));
  CHECK(fitted.covariance(0, 1) == doctest::Approx(0.5).epsilon(0.1));
  CHECK(fitted.covariance(0, 1) == fitted.covariance(1, 0));
  CHECK(complaint<std::exception>([] { (void)unet::fit_gaussian(unet::image_rows::Zero(1, 4)); }, {"got 1"}) == "");
}

TEST_CASE("samples are judged by style, likeness and class") {
  unet::judgement originals{normal_rows(500, 4, 2), {}, {}};
  unet::judgement samples{originals.features, unet::image_rows(500, 2), unet::image_rows::Zero(500, 3)};
  samples.style.col(0).setConstant(0.25F);
  samples.style.col(1).setConstant(0.75F);
  std::vector<int> labels(500, 2);
  for (int i = 0; i < 500; ++i) samples.category(i, i % 5 == 0 ? 2 : 1) = 1.0F;
  auto const same = unet::judge(samples, originals, 1, labels);
  CHECK(same.style_probability.value() == doctest::Approx(0.75));
  CHECK_FALSE(unet::judge(samples, originals, std::nullopt, labels).style_probability.has_value());
  CHECK(same.frechet_distance == doctest::Approx(0.0).epsilon(1e-9));
  CHECK(same.category_accuracy == doctest::Approx(0.2));
  samples.features.array() += 1.0F;
  CHECK(unet::judge(samples, originals, 0, labels).frechet_distance == doctest::Approx(4.0).epsilon(1e-5));
  CHECK(complaint<std::exception>([&] { (void)unet::judge(samples, originals, 2, labels); },
                                  {"style in [0, 2), got 2"}) == "");
  labels.pop_back();
  CHECK(complaint<std::exception>([&] { (void)unet::judge(samples, originals, 0, labels); },
                                  {"500 samples, got 499"}) == "");
}

TEST_CASE("panels show images enlarged, side by side, and survive a round trip through a file") {
  temporary_folder const folder;
  std::vector<float> black(2 * unet::image_size, -1.0F), red(2 * unet::image_size, -2.0F);
  for (std::size_t i = 0; i < 2; ++i) std::fill_n(red.begin() + static_cast<std::ptrdiff_t>(i * 3072), 1024, 5.0F);
  std::array<unet::panel, 2> const panels{{{"before", "", black}, {"after", "", red}}};
  std::vector<std::string> const captions{"one", "a caption that is much too long for two lines of this width"};
  auto const picture = unet::draw_panels(panels, captions, 2);
  unet::write_png(folder.path / "p.png", picture);
  auto const read = unet::read_bitmap(folder.path / "p.png");
  CHECK(read.width == picture.width);
  CHECK(read.rgb == picture.rgb);
  // The first image of the second panel is where the first panel's is, half the picture further, and clamped to red.
  int const x = 24 + 48, y = 52 + 48;
  CHECK(std::vector<int>(picture.at(x, y), picture.at(x, y) + 3) == std::vector<int>{0, 0, 0});
  auto const* const pixel = picture.at(x + picture.width / 2, y);
  CHECK(std::vector<int>(pixel, pixel + 3) == std::vector<int>{255, 0, 0});
  std::vector<std::string> const too_few{"one"};
  CHECK(complaint<std::exception>([&] { (void)unet::draw_panels(panels, too_few, 2); }, {"each of 2 images, got 1"}) ==
        "");
  CHECK(complaint<std::exception>([&] { unet::write_png(folder.path / "none" / "p.png", picture); },
                                  {"expected a file"}) == "");
}
