// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "assess.hpp"
#include "checkpoint.hpp"
#include "commands.hpp"
#include "dataset.hpp"
#include "dense_gradients.hpp"
#include "diffusion.hpp"
#include "finetune.hpp"
#include "model.hpp"
#include "picture.hpp"
#include "sara_gradients.hpp"
#include "tests/examples/unet/toy.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/scratch.hpp"
#include "weights.hpp"

namespace {

using sara::test::complaint;
using unet::model;

using namespace unet::test;

/// A base model, the pictures, and what fine-tuning needs.
struct tuning_bench {
  explicit tuning_bench(int threads = 1) : backend{threads} { randomise(net); }

  unet::finetune_result tune(unet::finetune_settings const& how, unet::finetune_control const& control = {}) {
    return unet::fine_tune(backend, net, data, how, control);
  }
  [[nodiscard]] std::vector<std::vector<float>> weights() const {
    std::vector<std::vector<float>> all;
    for (auto const* p : net.parameters()) all.push_back(p->values);
    return all;
  }

  sara::host backend;
  model<float> net{backend.threads(), tiny(3)};
  unet::dataset data = toy_data(toy_words());
};

}  // namespace

TEST_CASE_TEMPLATE("the compact gradient of every parameter is the dense one, gathered", Real, float, double) {
  sara::host const backend{2};
  model<Real> net{backend.threads(), {.channels = {8, 16, 24}, .embedding = 16, .classes = 4, .words = 5}};
  randomise(net);
  sara::fine_tuner tuner{backend, unet::named_weights(net),
                         sara::random{.fraction = 0.3, .over = sara::scope::tensor, .seed = 5},
                         sara::constant_rate{.rate = 1e-3}, sara::compute_in<Real>{}};
  unet::sara_gradients sampled{net, tuner};
  unet::dense_gradients<Real> dense{net};

  std::vector<float> pixels(std::size_t{3} * 3 * 8 * 8);
  unet::random_normal<float>(9, pixels);
  std::array<int, 2> const tokens{1, 3};
  unet::noisy_batch<Real> batch;
  for (int i = 0; i < 3; ++i) {
    batch.images.push_back(std::span<float const>{pixels}.subspan(static_cast<std::size_t>(i) * 192, 192));
    batch.conditions.push_back({i, i == 1 ? std::span<int const>{} : std::span<int const>{tokens}});
    batch.times.push_back(static_cast<Real>(0.2 + 0.3 * i));
    batch.noise.push_back(static_cast<std::uint64_t>(i));
  }
  unet::velocity_loss<Real> loss{net};
  loss.differentiate(batch, 8, sampled);
  loss.differentiate(batch, 8, dense);

  auto const selected = tuner.adapter();
  CHECK(selected.tensors.size() == net.parameters().size());
  for (auto const* p : net.parameters()) {
    CAPTURE(p->name);
    auto const compact = tuner.gradient(p->name);
    auto const& positions = selected.tensors.at(p->name).positions;
    REQUIRE(compact.size() == positions.size());
    double error = 0, size = 0;
    for (std::size_t j = 0; j < positions.size(); ++j) {
      auto const expected = static_cast<double>(dense[p->index][static_cast<std::size_t>(positions[j])]);
      error = std::max(error, std::abs(static_cast<double>(compact[j]) - expected));
      size = std::max(size, std::abs(expected));
    }
    CHECK(size > 0);
    CHECK(error <= 100 * static_cast<double>(std::numeric_limits<Real>::epsilon()) * size);
  }
}

TEST_CASE("fine-tuning lowers the loss and leaves what was not selected alone") {
  for (auto const* method : {"sara", "full"}) {
    CAPTURE(method);
    tuning_bench b;
    auto const base = b.weights();
    double const before = mean_velocity_loss(b.net, b.data, b.data.train);
    auto how = quick();
    how.method = method;
    how.steps = 30;
    auto const learned = b.tune(how);
    CHECK(learned.steps == 30);
    CHECK(mean_velocity_loss(b.net, b.data, b.data.train) < 0.8 * before);

    std::int64_t changed = 0, tunable = 0;
    for (auto const* p : b.net.parameters()) {
      CAPTURE(p->name);
      bool const may_learn = p->shape.size() > 1 && p->name != "class.weight" && p->name != "word.weight";
      auto const found = learned.adapter.tensors.find(p->name);
      if (may_learn) tunable += static_cast<std::int64_t>(p->values.size());
      REQUIRE((may_learn || found == learned.adapter.tensors.end()));
      auto frozen = base[p->index], now = p->values;
      if (found != learned.adapter.tensors.end())
        for (auto const position : found->second.positions) {
          auto const i = static_cast<std::size_t>(position);
          changed += frozen[i] != now[i];
          frozen[i] = now[i];
        }
      CHECK(frozen == now);
    }
    CHECK(learned.tunable == tunable);
    CHECK(learned.selected == (how.full() ? tunable : std::llround(0.3 * static_cast<double>(tunable))));
    CHECK(changed > 0.99 * static_cast<double>(learned.selected));
  }
}

TEST_CASE("the bits depend on neither threads nor interruptions") {
  sara::test::scratch const folder;
  auto how = quick();
  SUBCASE("as it comes") {}
  SUBCASE("with everything switched on") {
    how.reselect = "halfway";
    how.nuclear = 1e-3;
    how.nuclear_matrices = "round-robin";
    how.images_limit = 5;
  }
  SUBCASE("where all weights learn") { how.method = "full"; }
  tuning_bench whole{1};
  auto const uninterrupted = whole.tune(how);

  // Interrupted before and after the reselection at step 6.
  int steps = 0;
  for (int const pause : {5, 9, 12}) {
    tuning_bench part{2};
    auto const so_far = part.tune(how, {.state = folder / "state",
                                        .resume = steps > 0,
                                        .watch = [&](auto const& done) { steps = static_cast<int>(done.step); },
                                        .stop = [&] { return steps == pause; }});
    CHECK(so_far.steps == pause);
    CHECK((part.weights() == whole.weights()) == (pause == 12));
    if (pause == 12)
      for (auto const& entry : uninterrupted.adapter.tensors) {  // a structured binding could not be captured
        auto const& name = entry.first;
        auto const& tensor = entry.second;
        CAPTURE(name);
        CHECK(so_far.adapter.tensors.at(name).positions == tensor.positions);
        CHECK(so_far.adapter.tensors.at(name).delta == tensor.delta);
      }
  }
}

TEST_CASE("samples are the same bits for one thread and two") {
  std::array<int, 1> const token{1};
  std::array<unet::condition, 3> const asked{{{0, token}, {1, {}}, {unet::null_class, token}}};
  std::array<std::uint64_t, 3> const seeds{1, 2, 3};
  tuning_bench one{1}, two{2};
  auto const drawn = unet::sample(one.net, asked, seeds, {.steps = 3, .batch = 3});
  CHECK(drawn == unet::sample(two.net, asked, seeds, {.steps = 3, .batch = 2}));
  CHECK(drawn.size() == 3 * unet::image_size);
}

TEST_CASE("an adapter on the base draws what the fine-tuned model draws") {
  sara::test::scratch const folder;
  sara::host const backend{1};
  {
    tuning_bench b;
    unet::save_checkpoint(folder / "base", b.net, toy_words());
  }
  auto const tuned = unet::load_checkpoint(folder / "base", backend.threads());
  auto const learned = unet::fine_tune(backend, *tuned.model, toy_data(tuned.words), quick(), {});
  sara::save(learned.adapter, folder / "adapter");

  auto const adapted = unet::load_model(backend, {folder / "base", {folder / "adapter"}, {}});
  for (auto const* p : tuned.model->parameters()) {
    CAPTURE(p->name);
    auto const& values = adapted.model->parameters()[p->index]->values;
    double error = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      error = std::max(error, std::abs(static_cast<double>(values[i] - p->values[i])));
    CHECK(error < 1e-6);
  }
  std::array<unet::condition, 1> const asked{{{1, {}}}};
  std::array<std::uint64_t, 1> const seed{4};
  auto const here = unet::sample(*tuned.model, asked, seed, {.steps = 3}),
             there = unet::sample(*adapted.model, asked, seed, {.steps = 3});
  for (std::size_t i = 0; i < here.size(); ++i) REQUIRE(std::abs(here[i] - there[i]) < 1e-3F);

  // Half of one and half of the same is the whole; on another base it is refused.
  auto const merged =
      unet::load_model(backend, {folder / "base", {folder / "adapter", folder / "adapter"}, {0.5, 0.5}});
  CHECK(merged.model->parameters()[2]->values == adapted.model->parameters()[2]->values);
  CHECK(complaint<std::exception>(
            [&] {
              static_cast<void>(unet::load_model(backend, {folder / "base", {folder / "adapter"}, {1, 2}}));
            },
            {"expected one scale for each adapter, got 2 scales for 1 adapters"}) == "");
  unet::save_checkpoint(folder / "other", *tuned.model, tuned.words);
  CHECK_THROWS_AS(static_cast<void>(unet::load_model(backend, {folder / "other", {folder / "adapter"}, {}})),
                  sara::base_error);
}

TEST_CASE("the command fine-tunes on a folder of pictures and resumes only what it began") {
  sara::test::scratch const folder;
  auto const pictures = folder / "pictures";
  std::filesystem::create_directory(pictures);
  auto const data = toy_data(toy_words());
  std::ofstream captions{pictures / "metadata.jsonl"};
  for (std::size_t i = 0; i < data.size(); ++i) {
    auto picture = unet::blank_bitmap(unet::image_side, unet::image_side);
    unet::draw_image(picture, 0, 0, data.image(i), 1);
    auto const name = std::to_string(i) + ".png";
    unet::write_png(pictures / name, picture);
    captions << R"({"file_name": ")" << name << R"(", "text": ")" << data.text[i] << "\"}\n";
  }
  captions.close();
  {
    tuning_bench b;
    unet::save_checkpoint(folder / "base", b.net, toy_words());
  }
  unet::finetune_command how{
      .base = folder / "base", .data = UNET_DATA, .images = pictures, .out = folder / "out", .tuning = quick()};
  CHECK(complaint<std::exception>(
            [&] {
              auto again = how;
              again.resume = true;
              run(again);
            },
            {"expected the settings of a run to resume, got no file"}) == "");
  how.tuning.steps = 3;
  run(how);
  CHECK(sara::load_adapter(folder / "out" / "adapter.safetensors").count() > 0);

  how.resume = true;
  how.tuning.fraction = 0.4;
  CHECK(complaint<std::exception>([&] { run(how); },
                                  {"expected the settings of the run to resume, got another fraction"}) == "");
  how.style = "noto";
  CHECK(complaint<std::exception>([&] { run(how); }, {"expected either --style or --images, got both"}) == "");
}

TEST_CASE("settings that cannot be meant are refused with a sentence") {
  tuning_bench b;
  auto const refused = [&](auto&& change, std::string const& part) {
    auto how = quick();
    change(how);
    return complaint<std::exception>([&] { b.tune(how); }, {part});
  };
  CHECK(refused([](auto& how) { how.method = "lora"; }, "expected the method sara or full, got 'lora'") == "");
  CHECK(refused([](auto& how) { how.selector = "best"; }, "got 'best'") == "");
  CHECK(refused([](auto& how) { how.reselect = "often"; }, "got 'often'") == "");
  CHECK(refused([](auto& how) { how.nuclear_matrices = "some"; }, "got 'some'") == "");
  CHECK(refused([](auto& how) { how.batch = 0; }, "expected at least one picture a step") == "");
  CHECK(refused([](auto& how) { how.fraction = 1.5; }, "expected a fraction from 0 to 1, got 1.5") == "");
  CHECK(refused([](auto& how) { how.steps = 1; }, "expected more steps than the 2 of warm-up, got 1") == "");
  CHECK(refused(
            [](auto& how) {
              how.selector = "random";
              how.reselect = "halfway";
            },
            "expected a threshold, since selection was not by magnitude") == "");
}
