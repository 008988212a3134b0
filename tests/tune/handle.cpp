// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/schedule/reselection.hpp>
#include <sara/tensor/span.hpp>
#include <sara/tensor/vector.hpp>
#include <sara/tune/fine_tuner.hpp>
#include <sara/update/sgd.hpp>

#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/scratch.hpp"

namespace {

using sara::test::at_positions;
using sara::test::complaint;
using sara::test::difference;
using sara::test::uniform;

/// A tensor of an engine that gives its elements only where it may change.
struct engine_tensor {
  std::vector<float> elements;
  sara::extents shape;
};

}  // namespace

template <>
struct sara::tensor_traits<engine_tensor> {
  static tensor_view view(engine_tensor& tensor) { return {tensor.elements.data(), tensor.shape}; }
};

namespace {

/// A weight that learns where |w| < 0.05, with a tuner of its own.
struct layer {
  sara::extents shape;
  std::vector<float> weight = uniform<float>("weight", shape.product(), 0.1);
  sara::fine_tuner<sara::host, float, sara::below, sara::constant_rate> tuner{
      sara::host{2}, std::vector<sara::named_tensor>{{"w", sara::view(weight.data(), shape)}},
      sara::below{.threshold = 0.05}, sara::constant_rate{.rate = 0.1}};

  auto handle() { return tuner["w"]; }

  /// Whether the compact gradient is what the dense one has at the selected positions.
  [[nodiscard]] std::string unlike(std::vector<double> const& dense) const {
    auto const positions = tuner.adapter().tensors.at("w").positions;
    return difference(tuner.gradient("w"), at_positions(dense, positions), {1e-5, 0});
  }
};

std::vector<double> twice(std::vector<double> values) {
  for (auto& value : values) value *= 2;
  return values;
}

/// Σ over everything but the channels, dy [outer, channels, inner].
std::vector<double> channel_sums(std::vector<float> const& dy, std::int64_t channels, std::int64_t inner) {
  std::vector<double> out(static_cast<std::size_t>(channels));
  for (std::int64_t i = 0; i < std::ssize(dy); ++i)
    out[static_cast<std::size_t>(i / inner % channels)] += static_cast<double>(dy[static_cast<std::size_t>(i)]);
  return out;
}

}  // namespace

TEST_CASE("a Linear layer hands over dY and X with any number of batch dimensions") {
  layer l{{6, 5}};
  auto const dy = uniform<float>("dy", 4 * 3 * 6);
  auto const x = uniform<float>("x", 4 * 3 * 5);
  auto const expected = sara::test::linear_gradient(sara::view(dy.data(), {12, 6}), sara::view(x.data(), {12, 5}));
  l.handle().accumulate(sara::view(dy.data(), {12, 6}), sara::view(x.data(), {12, 5}));
  CHECK(l.unlike(expected) == "");
  l.handle().accumulate(sara::view(dy.data(), {4, 3, 6}), sara::view(x.data(), {4, 3, 5}));
  CHECK(l.unlike(twice(expected)) == "");
}

TEST_CASE("a convolution hands over dY, X and its geometry") {
  layer l{{6, 2, 3, 3}};
  auto const dy = uniform<float>("dy", 2 * 6 * 4 * 5);
  auto const x = uniform<float>("x", 2 * 4 * 7 * 9);
  auto const dy_view = sara::view(dy.data(), {2, 6, 4, 5});
  auto const x_view = sara::view(x.data(), {2, 4, 7, 9});
  sara::conv2d_geometry const geometry{.stride = {2, 2}, .padding = {1, 1}, .groups = 2};
  l.handle().accumulate(dy_view, x_view, geometry);
  CHECK(l.unlike(sara::test::conv2d_gradient(l.shape, dy_view, x_view, geometry)) == "");
}

TEST_CASE("biases of Linear layers and of convolutions") {
  layer linear{{40}};
  auto const dy = uniform<float>("dy", 3 * 40 * 12);
  linear.handle().accumulate_bias(sara::view(dy.data(), {3, 12, 40}));
  CHECK(linear.unlike(channel_sums(dy, 40, 1)) == "");
  layer convolution{{40}};
  convolution.handle().accumulate_conv2d_bias(sara::view(dy.data(), {3, 40, 4, 3}));
  CHECK(convolution.unlike(channel_sums(dy, 40, 12)) == "");
}

TEST_CASE("an embedding hands over dY and the rows that were looked up") {
  layer l{{7, 6}};
  std::vector<std::int64_t> const rows{3, 0, 3, 6, 3};
  auto const dy = uniform<float>("dy", 5 * 6);
  l.handle().accumulate_embedding(sara::view(dy.data(), {5, 6}), rows);
  std::vector<double> expected(7 * 6);
  for (std::size_t t = 0; t < rows.size(); ++t)
    for (std::size_t c = 0; c < 6; ++c)
      expected[static_cast<std::size_t>(rows[t]) * 6 + c] += static_cast<double>(dy[t * 6 + c]);
  CHECK(l.unlike(expected) == "");
}

TEST_CASE("an engine that has a dense gradient hands that over") {
  layer l{{6, 5}};
  auto const dense = uniform<float>("dense", 30);
  l.handle().accumulate(dense);
  CHECK(l.unlike({dense.begin(), dense.end()}) == "");
  l.handle().accumulate(sara::shaped_span{std::span{dense}, {6, 5}});
  CHECK(l.unlike(twice({dense.begin(), dense.end()})) == "");
}

TEST_CASE("an engine's own tensors are handed over as they are") {
  engine_tensor dy{uniform<float>("dy", 12 * 6), {12, 6}}, x{uniform<float>("x", 12 * 5), {12, 5}};
  auto const expected = sara::test::linear_gradient(sara::view(dy), sara::view(x));
  layer l{{6, 5}};
  l.handle().accumulate(dy, x);
  CHECK(l.unlike(expected) == "");
  l.handle().accumulate(engine_tensor{{expected.begin(), expected.end()}, {6, 5}});
  CHECK(l.unlike(twice(expected)) == "");
  layer bias{{6}};
  bias.handle().accumulate_bias(dy);
  CHECK(bias.unlike(channel_sums(dy.elements, 6, 1)) == "");
}

TEST_CASE("a tensor whose gradient comes by other means is moved when its handle is told") {
  auto weight = uniform<float>("weight", 30, 0.1);
  auto const before = weight;
  sara::fine_tuner tuner{sara::host{2},
                         std::vector<sara::named_tensor>{{"w", sara::view(weight.data(), sara::extents{6, 5})}},
                         sara::below{.threshold = 0.05}, sara::constant_rate{.rate = 0.1}};
  tuner.step();
  CHECK(weight == before);
  tuner["w"].expect_gradient();
  tuner.step();  // a gradient of zero: weight decay alone
  CHECK(weight != before);
}

TEST_CASE("what does not fit the weight is refused") {
  layer l{{6, 5}};
  auto const dy = uniform<float>("dy", 12);
  auto const x = uniform<float>("x", 12);
  CHECK(complaint<sara::shape_error>(
            [&] {
              l.handle().accumulate(sara::view(dy.data(), {2, 6}), sara::view(x.data(), {2, 6}));
            },
            {"'w': ", "[..., 6]", "[..., 5]"}) == "");
  CHECK(complaint<sara::shape_error>([&] { l.handle().accumulate(dy); }, {"'w': ", "6 rows of 5", "[12]"}) == "");
  auto const transposed = uniform<float>("transposed", 30);
  CHECK(complaint<sara::shape_error>(
            [&] {
              l.handle().accumulate(sara::view(transposed.data(), {5, 6}));
            },
            {"'w': ", "6 rows of 5", "[5, 6]"}) == "");
  layer by_channels{{5, 4, 3, 3}};
  auto const dw = uniform<float>("dw", 180);
  CHECK(complaint<sara::shape_error>(
            [&] {
              by_channels.handle().accumulate(sara::view(dw.data(), {5, 3, 3, 4}));
            },
            {"'w': ", "[5, 4, 3, 3]", "[5, 3, 3, 4]"}) == "");
  by_channels.handle().accumulate(sara::view(dw.data(), {5, 36}));
  CHECK(complaint<sara::memory_error>([&] { l.handle().accumulate(sara::view(dy.data(), {30}, sara::memory::cuda)); },
                                      {"CUDA"}) == "");
  auto const before = l.weight;
  l.tuner.step();  // there was no gradient
  CHECK(l.weight == before);
}

TEST_CASE("a handle stays valid over a reselection and a loaded state") {
  auto weight = uniform<float>("weight", 30, 0.1);
  auto const dense = uniform<float>("dense", 30);
  sara::fine_tuner tuner{sara::host{2},
                         std::vector<sara::named_tensor>{{"w", sara::view(weight.data(), sara::extents{6, 5})}},
                         sara::below{.threshold = 0.05},
                         sara::reselect_at{.steps = {1}},
                         sara::sgd{},
                         sara::constant_rate{.rate = 0.05}};
  sara::test::scratch const folder;
  tuner.save_state(folder / "state");
  auto handle = tuner["w"];
  auto const gradient = [&] {
    handle.accumulate(dense);
    return tuner.gradient("w");
  };
  auto const first = gradient();
  CHECK(tuner.step().reselected);
  auto const left = gradient();
  CHECK(!left.empty());
  CHECK(left.size() < first.size());
  tuner.load_state(folder / "state");
  CHECK(gradient() == first);
}

TEST_CASE("layers may hand over from threads of their own") {
  auto a = uniform<float>("a", 40 * 30, 0.05);
  auto b = uniform<float>("b", 40 * 30, 0.05);
  auto const dy = uniform<float>("dy", 16 * 40);
  auto const x = uniform<float>("x", 16 * 30);
  std::vector<std::pair<std::string, sara::shaped_span<float>>> const weights{{"a", {a, {40, 30}}},
                                                                              {"b", {b, {40, 30}}}};
  sara::fine_tuner tuner{sara::host{2}, weights, sara::below{.threshold = 0.05}, sara::constant_rate{.rate = 0.1}};
  auto const backward = [&](char const* name) {
    for (int pass = 0; pass < 20; ++pass)
      tuner[name].accumulate(sara::view(dy.data(), {16, 40}), sara::view(x.data(), {16, 30}));
  };
  std::thread other{backward, "a"};
  backward("b");
  other.join();
  CHECK(!tuner.gradient("a").empty());
  CHECK(tuner.gradient("a") == tuner.gradient("b"));
}
