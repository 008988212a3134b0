// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <sara/backend/host.hpp>
#include <sara/error.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "assess.hpp"
#include "batches.hpp"
#include "dataset.hpp"
#include "engine.hpp"
#include "finetune.hpp"
#include "model.hpp"
#include "tests/examples/unet/toy.hpp"

namespace {

using namespace unet;

struct engine_bench {
  sara::host backend{2};
  model<float> net{backend.threads(), test::tiny(3)};
  dataset data = test::toy_data();

  engine_bench() { test::randomise(net); }
};

/// The engine on the CUDA device. Without one, checks that this is said in a sentence, and returns null.
std::unique_ptr<engine> cuda_engine(engine_bench& b, std::string const& precision = "float32") {
  try {
    return make_engine({"cuda", precision}, b.backend, b.net);
  } catch (std::runtime_error const& error) {
    std::string const text = error.what();
    CHECK(text.find("--device cuda: ") == 0);
    MESSAGE("no CUDA device, so it is not compared with the host: " << text);
    return nullptr;
  }
}

TEST_CASE("the host's engine is the model itself") {
  engine_bench b, same;
  auto const host = make_engine({}, b.backend, b.net);
  CHECK(host->name() == "the host, 2 threads");
  CHECK(mean_velocity_loss(*host, b.data, b.data.train) == mean_velocity_loss(b.net, b.data, b.data.train));
  auto const through_engine = host->fine_tune(b.data, test::quick(), {});
  auto const directly = fine_tune(same.backend, same.net, same.data, test::quick(), {});
  CHECK(through_engine.selected == directly.selected);
  for (auto const* p : b.net.parameters()) CHECK(p->values == same.net.parameters()[p->index]->values);
}

TEST_CASE("a device or precision that there is not is refused with a sentence") {
  engine_bench b;
  auto const text_of = [&](device_choice const& choice) {
    try {
      static_cast<void>(make_engine(choice, b.backend, b.net));
    } catch (std::invalid_argument const& error) {
      return std::string{error.what()};
    }
    return std::string{"nothing was thrown"};
  };
  CHECK(text_of({"tpu", "float32"}) == "expected the device host or cuda, got 'tpu'");
  CHECK(text_of({"cuda", "float8"}) == "expected the precision float32 or bfloat16, got 'float8'");
  CHECK(text_of({"host", "bfloat16"}) == "expected the precision float32 on the host, got 'bfloat16'");
}

TEST_CASE("a CUDA device computes what the host computes, as far as rounding lets it") {
  engine_bench b, other;
  auto const device = cuda_engine(b);
  if (!device) return;
  auto const host = make_engine({}, other.backend, other.net);
  MESSAGE(device->name());

  CHECK(mean_velocity_loss(*device, b.data, b.data.train) ==
        doctest::Approx(mean_velocity_loss(*host, b.data, b.data.train)).epsilon(1e-4));
  std::array<int, 1> const token{1};
  std::array<condition, 3> const asked{{{0, token}, {1, {}}, {null_class, token}}};
  std::array<std::uint64_t, 3> const seeds{1, 2, 3};
  auto const far = [&](float bound) {
    auto const here = host->sample(asked, seeds, {.steps = 5}), there = device->sample(asked, seeds, {.steps = 5});
    REQUIRE(here.size() == there.size());
    for (std::size_t i = 0; i < here.size(); ++i)
      if (!(std::abs(here[i] - there[i]) < bound)) return true;
    return false;
  };
  CHECK(!far(1e-3F));

  auto const expected = host->fine_tune(other.data, test::quick(), {});
  auto const got = device->fine_tune(b.data, test::quick(), {});
  CHECK(got.selected == expected.selected);
  double error = 0, moved = 0;
  for (auto const* p : b.net.parameters()) {
    auto const& there = other.net.parameters()[p->index]->values;
    engine_bench const untouched;
    auto const& before = untouched.net.parameters()[p->index]->values;
    for (std::size_t i = 0; i < p->values.size(); ++i) {
      error += std::pow(static_cast<double>(p->values[i] - there[i]), 2);
      moved += std::pow(static_cast<double>(there[i] - before[i]), 2);
    }
  }
  CHECK(moved > 0);
  CHECK(std::sqrt(error / moved) < 1e-2);
  CHECK(!far(2e-2F));  // what learning has parted
}

TEST_CASE("two runs on a CUDA device are the same bits") {
  std::vector<std::vector<float>> learned;
  for (int run = 0; run < 2; ++run) {
    engine_bench b;
    auto const device = cuda_engine(b);
    if (!device) return;
    static_cast<void>(device->fine_tune(b.data, test::quick(), {}));
    auto& all = learned.emplace_back();
    for (auto const* p : b.net.parameters()) all.insert(all.end(), p->values.begin(), p->values.end());
  }
  CHECK(learned[0] == learned[1]);
}

TEST_CASE("a CUDA device learns with bfloat16 factors") {
  engine_bench b;
  auto const device = cuda_engine(b, "bfloat16");
  if (!device) return;
  auto how = test::quick();
  how.steps = 20;
  auto const before = mean_velocity_loss(*device, b.data, b.data.train);
  CHECK(before == doctest::Approx(mean_velocity_loss(b.net, b.data, b.data.train)).epsilon(0.02));
  static_cast<void>(device->fine_tune(b.data, how, {}));
  CHECK(mean_velocity_loss(*device, b.data, b.data.train) < 0.9 * before);
}

}  // namespace
