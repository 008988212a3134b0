// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "examples/unet/dense_gradients.hpp"
#include "examples/unet/model.hpp"

namespace {

using namespace unet;

/// Keeps the factors' products under the parameter's name: the oracle is independent of `dense_gradients`.
struct recording_sink {
  std::map<std::string, std::vector<double>> gradients;
  [[nodiscard]] bool wants(parameter<double> const&) const { return true; }
  std::vector<double>& of(parameter<double> const& p) {
    auto& g = gradients[p.name];
    g.resize(p.values.size());
    return g;
  }
  void linear(parameter<double> const& p, matrix_view<double const> dy, matrix_view<double const> x) {
    auto& g = of(p);
    for (std::int64_t n = 0; n < x.rows; ++n)
      for (std::int64_t o = 0; o < dy.columns; ++o)
        for (std::int64_t i = 0; i < x.columns; ++i)
          g[static_cast<std::size_t>(o * x.columns + i)] += dy.data[n * dy.columns + o] * x.data[n * x.columns + i];
  }
  void convolution(parameter<double> const& p, strips<double const> dy, strips<double const> x,
                   convolution_geometry const& geometry) {
    auto& g = of(p);
    auto const kernel = geometry.kernel, stride = geometry.stride, padding = geometry.padding();
    for (std::int64_t o = 0; o < dy.channels; ++o)
      for (std::int64_t i = 0; i < x.channels; ++i)
        for (std::int64_t tap = 0; tap < geometry.taps(); ++tap) {
          double sum = 0;
          for (std::int64_t n = 0; n < x.grid.batch; ++n)
            for (std::int64_t r = 0; r < dy.grid.height; ++r)
              for (std::int64_t c = 0; c < dy.grid.width; ++c) {
                auto const row = r * stride + tap / kernel - padding, column = c * stride + tap % kernel - padding;
                if (row < 0 || row >= x.grid.height || column < 0 || column >= x.grid.width) continue;
                sum += dy.image(o, n)[r * dy.grid.pitch() + c] * x.image(i, n)[row * x.grid.pitch() + column];
              }
          g[static_cast<std::size_t>((o * x.channels + i) * geometry.taps() + tap)] += sum;
        }
  }
  void dense(parameter<double> const& p, std::span<double const> gradient) {
    auto& g = of(p);
    for (std::size_t i = 0; i < g.size(); ++i) g[i] += gradient[i];
  }
};

template <class Real>
void fill(strips<Real> const& x, std::uint64_t seed) {
  for (std::int64_t c = 0; c < x.channels; ++c)
    for (std::int64_t n = 0; n < x.grid.batch; ++n)
      for (std::int64_t r = 0; r < x.grid.height; ++r)
        for (std::int64_t w = 0; w < x.grid.width; ++w)
          x.image(c, n)[r * x.grid.pitch() + w] = static_cast<Real>(
              2 * random_uniform(seed,
                                 static_cast<std::uint64_t>(((n * x.channels + c) * x.grid.height + r) * 64 + w)) -
              1);
  for (std::int64_t c = 0; c < x.channels; ++c) zero_padding(x.grid, x[c], 0, x.grid.size());
}

double dot(strips<double const> const& x, strips<double const> const& y) {
  double sum = 0;
  for (std::int64_t c = 0; c < x.channels; ++c)
    for (std::int64_t p = 0; p < x.grid.size(); ++p) sum += x[c][p] * y[c][p];
  return sum;
}

bool padding_is_zero(strips<double const> const& x) {
  for (std::int64_t c = 0; c < x.channels; ++c) {
    for (std::int64_t p = -x.grid.pitch() - 1; p < 0; ++p)
      if (x[c][p] != 0) return false;
    for (std::int64_t p = 0; p < x.grid.size(); ++p) {
      auto const row = p / x.grid.pitch(), column = p % x.grid.pitch();
      if ((column == x.grid.width || row % (x.grid.height + 1) == x.grid.height) && x[c][p] != 0) return false;
    }
    for (auto p = x.grid.size(); p < x.grid.span<double>() + x.grid.pitch() + 1; ++p)
      if (x[c][p] != 0) return false;
  }
  return true;
}

/// Relative error of a gradient against central differences of `loss`, over up to 40 entries of `values`.
double difference_error(std::function<double()> const& loss, std::span<double> values,
                        std::span<double const> gradient) {
  double const h = 1e-5;
  double error = 0, size = 0;
  auto const step = std::max<std::size_t>(1, values.size() / 37);
  for (std::size_t i = 0; i < values.size(); i += step) {
    double const kept = values[i];
    values[i] = kept + h;
    double const above = loss();
    values[i] = kept - h;
    double const below = loss();
    values[i] = kept;
    double const numeric = (above - below) / (2 * h);
    error += (numeric - gradient[i]) * (numeric - gradient[i]);
    size += numeric * numeric;
  }
  return std::sqrt(error / (size + 1e-12));
}

/// The same over pixels of strips.
double difference_error(std::function<double()> const& loss, strips<double> const& x, strips<double const> const& dx) {
  double error = 0, size = 0;
  double const h = 1e-5;
  for (std::int64_t c = 0; c < x.channels; c += 3)
    for (std::int64_t q = 0; q < x.grid.batch * x.grid.pixels(); q += 1 + x.grid.batch * x.grid.pixels() / 7) {
      auto const n = q / x.grid.pixels(), row = q % x.grid.pixels() / x.grid.width, column = q % x.grid.width;
      double& value = x.image(c, n)[row * x.grid.pitch() + column];
      double const kept = value;
      value = kept + h;
      double const above = loss();
      value = kept - h;
      double const below = loss();
      value = kept;
      double const numeric = (above - below) / (2 * h);
      double const analytic = dx.image(c, n)[row * x.grid.pitch() + column];
      error += (numeric - analytic) * (numeric - analytic);
      size += numeric * numeric;
    }
  return std::sqrt(error / (size + 1e-12));
}

template <class Layer>
void check_parameters(Layer& layer, std::function<double()> const& loss, recording_sink const& sink) {
  layer.each_parameter([&](parameter<double>& p) {
    CAPTURE(p.name);
    REQUIRE(sink.gradients.count(p.name) == 1);
    CHECK(difference_error(loss, p.values, sink.gradients.at(p.name)) < 1e-6);
  });
}

template <class Layer>
void randomise(Layer& layer) {
  std::uint64_t seed = 77;
  layer.each_parameter([&](parameter<double>& p) {
    if (p.begin.radius == 0) p.begin.radius = 0.3;  // also what starts at zero or one
    p.initialise(seed++);
  });
}

struct layer_bench {
  sara::thread_pool pool{2};
  workspace<double> memory;
  context<double> run{pool, memory, true};
};

TEST_CASE("a convolution's gradients are those of finite differences") {
  layer_bench b;
  for (auto const geometry : {convolution_geometry{3, 1}, convolution_geometry{1, 1}, convolution_geometry{3, 2}}) {
    CAPTURE(geometry.kernel);
    CAPTURE(geometry.stride);
    grid const in{2, 6, 4};
    grid const out = geometry.stride == 2 ? in.halved() : in;
    convolution<double> layer{"conv", 5, 11, geometry};
    randomise(layer);
    auto const x = b.memory.take(5, in), dx = b.memory.take(5, in);
    auto const y = b.memory.take(11, out), dy = b.memory.take(11, out);
    fill<double>(x, 1);
    fill<double>(dy, 2);
    auto const loss = [&] {
      layer.forward(b.run, x, y);
      return dot(y, dy);
    };
    loss();
    CHECK(padding_is_zero(y));
    recording_sink sink;
    layer.backward_weight(b.run, dy, x, sink);
    layer.backward_input(b.run, dy, dx);
    CHECK(padding_is_zero(dx));
    CHECK(difference_error(loss, x.view(), dx.view()) < 1e-6);
    check_parameters(layer, loss, sink);

    auto const once = dot(dx, dx);
    layer.backward_input(b.run, dy, dx, true);
    CHECK(dot(dx, dx) == doctest::Approx(4 * once));

    std::vector<double> dense(layer.weight.values.size());
    convolution_weight_gradient<double>(b.run, dy, x, geometry, dense);
    auto const& oracle = sink.gradients.at("conv.weight");
    for (std::size_t i = 0; i < dense.size(); ++i) CHECK(dense[i] == doctest::Approx(oracle[i]).epsilon(1e-12));
  }
}

TEST_CASE("group normalisation's gradients are those of finite differences") {
  layer_bench b;
  grid const where{3, 4, 4};
  for (bool const activate : {false, true})
    for (bool const modulated : {false, true}) {
      CAPTURE(activate);
      CAPTURE(modulated);
      group_norm<double> layer{"norm", 16, activate};
      randomise(layer);
      std::vector<double> values(3 * 32), dvalues(3 * 32);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = random_uniform(5, i) - 0.5;
      matrix_view<double> const modulation{modulated ? values.data() : nullptr, 3, 32};
      auto const x = b.memory.take(16, where), y = b.memory.take(16, where), weights = b.memory.take(16, where),
                 dy = b.memory.take(16, where), dx = b.memory.take(16, where);
      fill<double>(x, 1);
      fill<double>(weights, 2);
      auto const loss = [&] {
        layer.forward(b.run, x, y, modulation);
        return dot(y, weights);
      };
      loss();
      CHECK(padding_is_zero(y));
      recording_sink sink;
      fill<double>(dy, 2);
      layer.backward(b.run, dy, x, dx, sink, {}, modulation, {dvalues.data(), 3, 32});
      CHECK(padding_is_zero(dx));
      CHECK(difference_error(loss, x.view(), dx.view()) < 1e-6);
      check_parameters(layer, loss, sink);
      if (modulated) CHECK(difference_error(loss, values, dvalues) < 1e-6);
    }
}

TEST_CASE("numbers that are not finite stay out of the padding, which the next user of the memory relies on") {
  layer_bench b;
  grid const where{2, 4, 4};
  group_norm<double> layer{"norm", 16, true};
  auto const x = b.memory.take(16, where), y = b.memory.take(16, where), dy = b.memory.take(16, where),
             dx = b.memory.take(16, where);
  fill<double>(x, 1);
  fill<double>(dy, 2);
  x.view()[3][5] = std::numeric_limits<double>::quiet_NaN();
  recording_sink sink;
  layer.forward(b.run, x, y);
  layer.backward(b.run, dy, x, dx, sink);
  CHECK(std::isnan(dx.view()[3][6]));
  for (auto const* each : {&y, &dy, &dx}) CHECK(padding_is_zero(*each));
}

TEST_CASE("attention's gradients are those of finite differences") {
  layer_bench b;
  grid const where{2, 4, 4};
  attention<double> layer{"attention", 16};
  randomise(layer);
  auto const x = b.memory.take(16, where), y = b.memory.take(16, where), dy = b.memory.take(16, where),
             dx = b.memory.take(16, where);
  fill<double>(x, 1);
  fill<double>(dy, 2);
  auto const loss = [&] {
    layer.forward(b.run, x, y);
    return dot(y, dy);
  };
  loss();
  CHECK(padding_is_zero(y));
  recording_sink sink;
  layer.backward(b.run, dy, dx, sink);
  CHECK(padding_is_zero(dx));
  CHECK(difference_error(loss, x.view(), dx.view()) < 1e-6);
  check_parameters(layer, loss, sink);
}

TEST_CASE("attention refuses more pixels than it has room for") {
  layer_bench b;
  attention<double> layer{"attention", 16};
  auto const x = b.memory.take(16, {1, 16, 16}), y = b.memory.take(16, {1, 16, 16});
  CHECK_THROWS_WITH_AS(layer.forward(b.run, x, y),
                       "attention: expected at most 64 pixels and 64 channels a head, got 256 and 4",
                       std::invalid_argument);
}

TEST_CASE("a stage's gradients are those of finite differences") {
  layer_bench b;
  grid const where{2, 4, 4};
  for (auto const in : {std::int64_t{8}, std::int64_t{16}}) {
    stage<double> layer{"stage", in, 16, 6, true};
    randomise(layer);
    std::vector<double> embedding(2 * 6), dembedding(2 * 6);
    for (std::size_t i = 0; i < embedding.size(); ++i) embedding[i] = random_uniform(9, i);
    auto const x = b.memory.take(in, where), dx = b.memory.take(in, where), y = b.memory.take(16, where),
               dy = b.memory.take(16, where);
    fill<double>(x, 1);
    fill<double>(dy, 2);
    auto const loss = [&] {
      layer.forward(b.run, x, {embedding.data(), 2, 6}, y);
      return dot(y, dy);
    };
    loss();
    recording_sink sink;
    layer.backward(b.run, dy, dx, {dembedding.data(), 2, 6}, sink);
    CHECK(difference_error(loss, x.view(), dx.view()) < 1e-6);
    CHECK(difference_error(loss, embedding, dembedding) < 1e-6);
    check_parameters(layer, loss, sink);
  }
}

TEST_CASE("enlarging and its gradient are adjoint") {
  layer_bench b;
  auto const x = b.memory.take(3, {2, 3, 5}), dx = b.memory.take(3, {2, 3, 5});
  auto const y = b.memory.take(3, {2, 6, 10}), dy = b.memory.take(3, {2, 6, 10});
  fill<double>(x, 1);
  fill<double>(dy, 2);
  enlarge<double>(b.pool, x, y);
  enlarge_backward<double>(b.pool, dy, dx);
  CHECK(padding_is_zero(y));
  CHECK(padding_is_zero(dx));
  CHECK(dot(y, dy) == doctest::Approx(dot(x, dx)).epsilon(1e-12));
  CHECK(y.view().image(1, 1)[3 * 11 + 5] == x.view().image(1, 1)[1 * 6 + 2]);
}

TEST_CASE("the fast exponential agrees with the library's") {
  for (float x = -87; x < 88; x += 0.37F) CHECK(exponential(x) == doctest::Approx(std::exp(x)).epsilon(3e-7));
  CHECK(silu(-200.0F) == doctest::Approx(0.0F));
  CHECK(silu(200.0F) == 200.0F);
}

model_shape small_shape() {
  return {.channels = {16, 24, 32}, .colours = 3, .embedding = 12, .classes = 4, .words = 7, .attention_from = 1};
}

struct small_batch {
  static constexpr int first[] = {3, 5, 6}, second[] = {1};
  std::vector<double> times{0.1, 0.6, 0.9};
  std::vector<condition> conditions{{1, first}, {3, {}}, {0, second}};
};

TEST_CASE("the whole network's gradients are those of finite differences") {
  layer_bench b;
  model<double> net{b.pool, small_shape()};
  for (auto* p : net.parameters()) {
    if (p->begin.radius == 0) p->begin.radius = 0.2;
    p->initialise(1000 + p->index);
  }
  small_batch const batch;
  grid const where{3, 8, 8};
  auto const x = b.memory.take(3, where), v = b.memory.take(3, where), dv = b.memory.take(3, where);
  fill<double>(x, 1);
  fill<double>(dv, 2);
  auto const loss = [&] {
    net.forward(x, batch.times, batch.conditions, v, false);
    return dot(v, dv);
  };
  dense_gradients<double> dense{net};
  dense.clear();
  recording_sink sink;
  for (int pass = 0; pass < 2; ++pass) {
    sink = {};
    net.forward(x, batch.times, batch.conditions, v, true);
    net.backward(dv, sink);
  }
  net.forward(x, batch.times, batch.conditions, v, true);
  net.backward(dv, dense);
  for (auto* p : net.parameters()) {
    CAPTURE(p->name);
    auto const& gradient = sink.gradients.at(p->name);
    CHECK(difference_error(loss, p->values, gradient) < 1e-6);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      error += std::pow(gradient[i] - dense[p->index][i], 2);
      size += std::pow(gradient[i], 2);
    }
    CHECK(std::sqrt(error) <= 1e-12 * std::sqrt(size));
  }
}

TEST_CASE("the bits depend on neither the number of threads nor on reused memory") {
  small_batch const batch;
  std::vector<float> const times(batch.times.begin(), batch.times.end());
  std::vector<std::vector<float>> results;
  for (int const threads : {1, 3, 4}) {
    sara::thread_pool pool{threads};
    model<float> net{pool, small_shape()};
    net.initialise(3);
    for (auto* p : net.parameters())
      if (p->begin.radius == 0) p->values.assign(p->values.size(), 0.1F);
    grid const where{3, 16, 16};
    auto const x = net.memory().take(3, where), v = net.memory().take(3, where);
    fill<float>(x, 1);
    for (int pass = 0; pass < 2; ++pass) {
      dense_gradients<float> gradients{net};
      net.forward(x, times, batch.conditions, v, true);
      net.backward(v, gradients);
      auto& result = results.emplace_back();
      for (auto const* p : net.parameters())
        result.insert(result.end(), gradients[p->index].begin(), gradients[p->index].end());
    }
    auto const allocated = net.memory().allocated();
    net.forward(x, times, batch.conditions, v, false);
    CHECK(net.memory().allocated() == allocated);
  }
  for (auto const& result : results) CHECK(result == results.front());
}

TEST_CASE("the base model has the size it is described with") {
  sara::thread_pool pool{1};
  model<float> const net{pool, {}};
  MESSAGE("parameters: " << net.parameter_count());
  CHECK(net.parameter_count() > 3'000'000);
  CHECK(net.parameter_count() < 3'500'000);
}

}  // namespace
