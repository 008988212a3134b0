// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <sara/torch/adapter.hpp>
#include <sara/torch/published.hpp>

#include "../support/scratch.hpp"
#include "optimizers.hpp"

namespace {

using sara::test::complaint;
using sara::test::two_layers;

void write(std::filesystem::path const& path, c10::IValue const& value) {
  auto const bytes = torch::pickle_save(value);
  std::ofstream{path, std::ios::binary}.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// What the published optimizer would save of a model trained from `base`.
c10::impl::GenericDict state_of(two_layers const& trained, two_layers const& base, double threshold) {
  c10::impl::GenericDict out{c10::AnyType::get(), c10::AnyType::get()};
  auto const now = trained.parameters(), then = base.parameters();
  for (std::size_t i = 0; i < now.size(); ++i)
    out.insert(static_cast<std::int64_t>(i), now[i].detach().masked_select(then[i].abs() < threshold));
  return out;
}

struct published_file {
  two_layers base, trained;
  sara::test::scratch folder;
  std::filesystem::path file = folder / "unet.pt";
  published_file() {
    torch::manual_seed(71);
    torch::NoGradGuard const no_grad;
    auto const start = base.parameters(), end = trained.parameters();
    for (std::size_t i = 0; i < start.size(); ++i) {
      end[i].copy_(start[i]);
      end[i].add_(torch::randn_like(start[i]) * start[i].abs().lt(0.1));
    }
  }
};

}  // namespace

TEST_CASE_FIXTURE(published_file, "positions are rebuilt from the base model, and the trained weights come back") {
  write(file, state_of(trained, base, 0.1));
  for (bool const in_the_file : {false, true}) {
    if (in_the_file) {
      auto state = state_of(trained, base, 0.1);
      state.insert("threshold", 0.1);
      write(file, state);
    }
    auto const learned = sara::torch::load_published(file, base, in_the_file ? std::optional<double>{} : 0.1);
    two_layers model;
    sara::test::copy_weights(base, model);
    static_cast<void>(sara::torch::apply(learned, model));
    for (auto const& p : model.named_parameters())
      CHECK(torch::allclose(p.value(), trained.named_parameters()[p.key()], 1e-6, 1e-7));
  }
}

TEST_CASE("a tied parameter is counted once, as Python counts it") {
  struct tied : torch::nn::Module {
    tied() {
      a = register_parameter("a", torch::linspace(-1, 1, 8));
      register_parameter("b", a);
      c = register_parameter("c", torch::linspace(-2, 2, 9));
    }
    at::Tensor a, c;
  } const base;
  sara::test::scratch const folder;
  c10::impl::GenericDict state{c10::AnyType::get(), c10::AnyType::get()};
  state.insert(std::int64_t{1}, torch::ones({3}));  // of c, below 0.75: -0.5, 0, 0.5
  write(folder / "tied.pt", state);
  auto const learned = sara::torch::load_published(folder / "tied.pt", base, 0.75);
  REQUIRE(learned.tensors.size() == 1);
  CHECK(learned.tensors.at("c").positions == std::vector<std::int64_t>{3, 4, 5});
}

TEST_CASE("a file that Python wrote is read") {  // tests/golden/published.py
  two_layers base;
  std::vector<at::Tensor> expected;
  {
    torch::NoGradGuard const no_grad;
    for (auto const& weight : base.parameters()) {
      auto const number = static_cast<std::int64_t>(expected.size());
      auto const entry = torch::arange(weight.numel(), torch::kLong);
      weight.copy_((((7 * entry + number) % 41 - 20).to(torch::kFloat) / 100).reshape(weight.sizes()));
      auto const chosen = weight.abs().lt(0.045);
      auto const learned = chosen.flatten().to(torch::kFloat).cumsum(0).reshape(weight.sizes()) / 1000;
      expected.push_back(torch::where(chosen, weight + learned, weight));
    }
  }
  auto const learned = sara::torch::load_published(SARA_GOLDEN_DIR "/published.pt", base);
  CHECK(learned.tensors.size() == expected.size());
  static_cast<void>(sara::torch::apply(learned, base));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(torch::allclose(base.parameters()[i], expected[i], 0, 1e-7));
}

TEST_CASE_FIXTURE(published_file, "what cannot be rebuilt is said") {
  using sara::torch::load_published;
  auto const load = [&](std::optional<double> threshold) {
    return [&, threshold] { static_cast<void>(load_published(file, base, threshold)); };
  };
  CHECK(complaint<sara::file_error>(load(0.1), {"unet.pt", "readable"}) == "");
  write(file, state_of(trained, base, 0.1));
  CHECK(complaint<sara::value_error>(load({}), {"threshold"}) == "");
  CHECK(complaint<sara::value_error>(load(0.2), {"'fc1.weight'", "cannot be rebuilt", "Float"}) == "");
  auto more = state_of(trained, base, 0.1);
  more.insert(std::int64_t{4}, torch::ones({1}));
  write(file, more);
  CHECK(complaint<sara::name_error>(load(0.1), {"parameters 0 to 3", "4"}) == "");
  write(file, torch::ones({2}));
  CHECK(complaint<sara::file_error>(load(0.1), {"dictionary"}) == "");
  std::ofstream{file} << "no archive";
  CHECK(complaint<sara::file_error>(load(0.1), {"dictionary"}) == "");
}
