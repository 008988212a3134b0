// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "classifier.hpp"
#include "classifier_file.hpp"
#include "classifier_training.hpp"
#include "dataset.hpp"
#include "picture.hpp"

namespace {

namespace fs = std::filesystem;

/// Keeps the dense gradient of every parameter.
struct kept_gradients {
  unet::context<double> run;
  std::vector<std::vector<double>> of = {};

  explicit kept_gradients(unet::classifier<double>& net) : run{net.pool(), net.memory(), true} {
    for (auto const* p : net.parameters()) of.emplace_back(p->values.size());
  }
  bool wants(unet::parameter<double> const&) const { return true; }
  void linear(unet::parameter<double> const& p, unet::matrix_view<double const> dy, unet::matrix_view<double const> x) {
    for (std::int64_t o = 0; o < dy.columns; ++o)
      for (std::int64_t i = 0; i < x.columns; ++i)
        for (std::int64_t n = 0; n < dy.rows; ++n)
          of[p.index][static_cast<std::size_t>(o * x.columns + i)] +=
              dy.data[n * dy.columns + o] * x.data[n * x.columns + i];
  }
  void convolution(unet::parameter<double> const& p, unet::strips<double const> dy, unet::strips<double const> x,
                   unet::convolution_geometry const& geometry) {
    unet::convolution_weight_gradient<double>(run, dy, x, geometry, of[p.index]);
  }
  void dense(unet::parameter<double> const& p, std::span<double const> gradient) {
    std::copy(gradient.begin(), gradient.end(), of[p.index].begin());
  }
};

struct no_gradients {
  bool wants(unet::parameter<double> const&) const { return false; }
  void linear(unet::parameter<double> const&, unet::matrix_view<double const>, unet::matrix_view<double const>) {}
  void convolution(unet::parameter<double> const&, unet::strips<double const>, unet::strips<double const>,
                   unet::convolution_geometry const&) {}
  void dense(unet::parameter<double> const&, std::span<double const>) {}
};

/// A folder with a small emoji.json: 80 cells, class 0 a square, class 1 a bar, in a red and a blue style.
struct toy_folder {
  fs::path path = fs::temp_directory_path() / ("unet-classifier-" + std::to_string(std::random_device{}()));

  toy_folder() {
    fs::create_directory(path);
    nlohmann::json json{{"cell", 32}, {"columns", 40}, {"labels", {"square", "bar"}}};
    std::array<std::string, 2> const styles{"red", "blue"};
    for (std::size_t s = 0; s < 2; ++s) {
      auto sheet = unet::blank_bitmap(40 * 32, 2 * 32);
      for (int i = 0; i < 80; ++i) {
        int const height = i % 2 == 0 ? 16 : 4;
        for (int y = 0; y < height; ++y)
          for (int x = 0; x < 16; ++x) {
            auto* const pixel = sheet.at(i % 40 * 32 + 4 + i % 9 + x, i / 40 * 32 + 4 + i % 7 + y);
            pixel[0] = s == 0 ? 255 : 0;
            pixel[1] = 0;
            pixel[2] = s == 0 ? 0 : 255;
          }
      }
      unet::write_png(path / (styles[s] + ".png"), sheet);
    }
    for (int i = 0; i < 80; ++i)
      json["emoji"].push_back({{"code", std::to_string(i)},
                               {"name", "thing " + std::to_string(i)},
                               {"category", "toy"},
                               {"subgroup", "toy"},
                               {"label", i % 2},
                               {"held_out", i % 10 >= 8},
                               {"styles", styles}});
    std::ofstream{path / "emoji.json"} << json;
  }
  toy_folder(toy_folder const&) = delete;
  toy_folder& operator=(toy_folder const&) = delete;
  ~toy_folder() { fs::remove_all(path); }

  [[nodiscard]] unet::classifier_settings settings() const {
    unet::classifier_settings how{.data = path, .out = path / "judge.safetensors", .styles = {"red", "blue", "absent"}};
    how.steps = 3;
    how.batch = 16;
    how.threads = 1;
    return how;
  }
};

}  // namespace

TEST_CASE("gradients of the classifier are those of finite differences") {
  sara::thread_pool pool{1};
  unet::classifier<double> net{pool, {"a", "b"}, {"x", "y", "z"}};
  net.initialise(1);
  std::vector<float> images(2 * unet::image_size);
  unet::random_normal<float>(5, images);
  std::vector<int> const style{1, 0}, label{2, 1};
  kept_gradients gradients{net};
  net.loss(images, style, label, gradients);
  for (auto* p : net.parameters()) {
    CAPTURE(p->name);
    no_gradients ignored;
    auto const& exact = gradients.of[p->index];
    double error = 0, size = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      auto const i = (k * 7919 + p->index) % exact.size();
      double const step = 1e-5, value = p->values[i];
      p->values[i] = value + step;
      double const above = net.loss(images, style, label, ignored);
      p->values[i] = value - step;
      double const below = net.loss(images, style, label, ignored);
      p->values[i] = value;
      double const difference = (above - below) / (2 * step);
      error += (difference - exact[i]) * (difference - exact[i]);
      size += difference * difference;
    }
    // A convolution's bias is almost undone by the GroupNorm after it: compare against the size of a visible gradient.
    CHECK(std::sqrt(error) < 1e-6 * std::max(std::sqrt(size), 1e-2));
  }
}

TEST_CASE("the classifier learns to tell styles and classes apart") {
  toy_folder const folder;
  auto how = folder.settings();
  how.steps = 40;
  auto const right = unet::train_classifier(how);
  CHECK(right.style == 1.0);
  CHECK(right.category > 0.9);
}

TEST_CASE("training gives the same bits on any number of threads") {
  toy_folder const folder;
  auto how = folder.settings();
  unet::train_classifier(how);
  how.threads = 3;
  how.out = folder.path / "again.safetensors";
  unet::train_classifier(how);
  auto const first = sara::safetensors::load(folder.path / "judge.safetensors");
  auto const second = sara::safetensors::load(how.out);
  for (auto const& [name, tensor] : first.tensors())
    CHECK(first.read<sara::float16>(name) == second.read<sara::float16>(name));
}

TEST_CASE("a classifier read from its file judges the same, in batches of any size") {
  toy_folder const folder;
  auto const how = folder.settings();
  unet::train_classifier(how);
  sara::thread_pool pool{2};
  auto const net = unet::load_classifier(how.out, pool);
  CHECK(net->styles() == std::vector<std::string>{"red", "blue"});
  CHECK(net->classes() == std::vector<std::string>{"square", "bar"});
  auto const data = unet::load_sheets(folder.path, {"red", "blue"});
  auto const all = net->judge(data.images);
  auto const one = net->judge(data.image(100));
  CHECK(all.features.rows() == 160);
  CHECK((all.features.row(100) - one.features).norm() == 0.0F);
  for (Eigen::Index i = 0; i < 160; ++i) {
    CHECK(all.style.row(i).sum() == doctest::Approx(1.0F));
    CHECK(all.category.row(i).sum() == doctest::Approx(1.0F));
  }
  CHECK_THROWS_AS((void)unet::load_classifier(folder.path / "red.png", pool), sara::file_error);
}

TEST_CASE("the shipped classifier knows styles and classes it has never seen drawn so") {
  sara::thread_pool pool{2};
  fs::path const shipped = UNET_DATA;
  auto const net = unet::load_classifier(shipped / "classifier.safetensors", pool);
  CHECK_FALSE(net->style_number("oil painting").has_value());
  CHECK(fs::file_size(shipped / "classifier.safetensors") < 300'000);
  for (std::string const style : {"fluent-high-contrast", "noto"}) {
    CAPTURE(style);
    auto data = unet::load_sheets(shipped, {style});
    CHECK(net->classes() == data.labels);
    auto const number = net->style_number(style);
    REQUIRE(number.has_value());
    std::fill(data.style.begin(), data.style.end(), *number);
    auto const right = unet::measure_accuracy(*net, data, data.held_out);
    CHECK(right.style > 0.6);
    CHECK(right.category > 0.35);
  }
}

TEST_CASE("augmented pictures are the picture moved on white, with noise of at most 0.15") {
  std::vector<float> from(unet::image_size, 1.0F), to(unet::image_size);
  from[16 * 32 + 16] = -1.0F;
  bool moved = false;
  for (std::uint64_t key = 0; key < 20; ++key) {
    unet::augment(std::span<float const, unet::image_size>{from}, std::span<float, unet::image_size>{to}, key);
    auto const dark = std::min_element(to.begin(), to.begin() + 1024) - to.begin();
    CHECK(std::abs(dark / 32 - 16) <= 3);
    CHECK(std::abs(dark % 32 - 16) <= 3);
    moved = moved || dark != 16 * 32 + 16;
    double square = 0;
    for (std::size_t i = 1024; i < to.size(); ++i) square += (to[i] - 1.0) * (to[i] - 1.0);
    CHECK(std::sqrt(square / 2048) < 0.16);
  }
  CHECK(moved);
}
