// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <sara/adapter/apply.hpp>
#include <sara/adapter/file.hpp>
#include <sara/backend/host.hpp>
#include <sara/tensor/eigen.hpp>
#include <sara/tensor/span.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/random.hpp"
#include "../support/scratch.hpp"

namespace {

using sara::test::complaint;
using sara::test::same_bits;
using sara::test::uniform;

sara::host const backend{2};

/// An adapter of one tensor "w" for these base weights, with a random ΔP.
template <sara::Scalar T>
sara::adapter adapter_for(std::vector<T> const& base, sara::extents const& shape) {
  auto const positions = sara::test::random_positions("positions", shape.product(), 0.3);
  auto const delta = uniform<sara::widened<T>>("delta", std::ssize(positions), 0.1);
  sara::adapter out;
  out.tensors["w"] = {shape, sara::dtype_of<T>, sara::base_hash(backend, sara::view(base.data(), shape)), positions,
                      delta};
  return out;
}

template <sara::Scalar T>
std::vector<sara::named_tensor> named(std::vector<T>& w, sara::extents const& shape) {
  return {{"w", sara::view(w.data(), shape)}};
}

/// base + scale · ΔP, rounded once.
template <sara::Scalar T>
std::vector<T> sum(std::vector<T> base, sara::adapter const& a, double scale) {
  using R = sara::widened<T>;
  auto const& tensor = a.tensors.at("w");
  for (std::size_t i = 0; i < tensor.positions.size(); ++i) {
    auto& w = base[static_cast<std::size_t>(tensor.positions[i])];
    w = sara::narrow<T>(sara::widen(w) + static_cast<R>(scale) * std::get<std::vector<R>>(tensor.delta)[i]);
  }
  return base;
}

sara::extents const shape{30, 20};

}  // namespace

TEST_CASE_TEMPLATE("P = P₀ + α ΔP, and back to every bit", T, double, float, sara::bfloat16, sara::float16) {
  auto const base = uniform<T>("base", shape.product());
  auto const a = adapter_for(base, shape);
  auto weights = base;
  auto applied = sara::apply(backend, a, named(weights, shape));
  CHECK(same_bits(weights, sum(base, a, 1)));
  CHECK(!same_bits(weights, base));
  for (double const scale : {0.6, -1.0, 2.0}) {  // from the original values each time, not from rounded sums
    applied.rescale(scale);
    CHECK(same_bits(weights, sum(base, a, scale)));
  }
  auto const before = weights;
  CHECK(complaint<sara::value_error>([&] { applied.rescale(std::numeric_limits<double>::quiet_NaN()); },
                                     {"finite scale"}) == "");
  CHECK(same_bits(weights, before));
  applied.undo();
  CHECK(same_bits(weights, base));

  static_cast<void>(sara::apply(backend, a, named(weights, shape), {.scale = 0.5}));
  CHECK(same_bits(weights, sum(base, a, 0.5)));  // they stay when the object has gone
}

TEST_CASE("in a program that knows no tuner: load, apply, scale, undo") {
  sara::test::scratch const folder;
  auto const file = folder / "style.safetensors";
  std::vector<float> weight = uniform<float>("base", 8 * 4);
  sara::save(adapter_for(weight, {8, 4}), file);
  auto const base = weight;

  // [apply]
  sara::adapter const style = sara::load_adapter(file);
  std::vector<std::pair<std::string, sara::shaped_span<float>>> const weights{{"w", {weight, {8, 4}}}};
  auto applied = sara::apply(sara::host{}, style, weights, {.scale = 0.8});  // weights = base + 0.8 ΔP
  applied.rescale(1.2);                                                      // weights = base + 1.2 ΔP
  applied.undo();                                                            // the base again, bit by bit
  // [/apply]
  CHECK(same_bits(weight, base));
  applied.rescale(1);
  CHECK(same_bits(weight, sum(base, style, 1)));
}

TEST_CASE("the storage order of a matrix does not matter") {
  using by_rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  auto const base = uniform<float>("base", shape.product());
  auto const a = adapter_for(base, shape);
  by_rows rows = Eigen::Map<by_rows const>(base.data(), shape[0], shape[1]);
  Eigen::MatrixXf columns = rows;
  std::vector<std::pair<std::string, Eigen::MatrixXf>> weights{{"w", columns}};
  auto applied = sara::apply(backend, a, weights);
  auto const expected = sum(base, a, 1);
  CHECK(weights[0].second == Eigen::Map<by_rows const>(expected.data(), shape[0], shape[1]));
  applied.undo();
  CHECK(weights[0].second == columns);
}

TEST_CASE("merged adapters are applied at once") {
  auto const base = uniform<float>("base", shape.product());
  auto const a = adapter_for(base, shape);
  auto const both = sara::merge({{a, 0.6}, {a, 0.6}});
  auto weights = base;
  static_cast<void>(sara::apply(backend, both, named(weights, shape)));
  CHECK(sara::test::difference(weights, sum(base, a, 1.2), {1e-7, 0}) == "");
}

TEST_CASE("an adapter on other weights than its own is refused, and nothing is written") {
  auto const base = uniform<float>("base", shape.product());
  auto const a = adapter_for(base, shape);
  auto weights = base;
  auto const refused = [&]<class Error>(sara::adapter const& what, std::vector<sara::named_tensor> const& where,
                                        std::vector<std::string> const& parts, sara::apply_options options = {}) {
    return complaint<Error>([&] { static_cast<void>(sara::apply(backend, what, where, options)); }, parts);
  };

  SUBCASE("a missing tensor") {
    CHECK(refused.operator()<sara::name_error>(a, {{"v", sara::view(weights.data(), shape)}}, {"'w'"}) == "");
  }
  SUBCASE("other extents, forced or not") {
    for (bool const force : {false, true})
      CHECK(refused.operator()<sara::shape_error>(a, named(weights, {20, 30}), {"'w'", "[30, 20]", "[20, 30]"},
                                                  {.force = force}) == "");
  }
  SUBCASE("another dtype") {
    std::vector<sara::bfloat16> narrow(base.size());
    CHECK(refused.operator()<sara::dtype_error>(a, named(narrow, shape), {"'w'", "float32", "bfloat16"}) == "");
    CHECK(same_bits(narrow, std::vector<sara::bfloat16>(base.size())));
  }
  SUBCASE("other values; a second tensor that is wrong keeps the first from being written") {
    auto two = a;
    two.tensors["x"] = a.tensors.at("w");
    auto other = base;
    other[7] += 1;
    auto const expected = other;
    std::vector<sara::named_tensor> const where{{"w", sara::view(weights.data(), shape)},
                                                {"x", sara::view(other.data(), shape)}};
    CHECK(refused.operator()<sara::base_error>(two, where, {"'x'", "base weights"}) == "");
    CHECK(same_bits(other, expected));
  }
  SUBCASE("an adapter that is applied already") {
    auto applied = sara::apply(backend, a, named(weights, shape));
    CHECK(refused.operator()<sara::base_error>(a, named(weights, shape), {"is another adapter applied?"}) == "");
    applied.undo();
  }
  SUBCASE("memory of another device") {
    CHECK(refused.operator()<sara::memory_error>(a, {{"w", sara::view(weights.data(), shape, sara::memory::cuda)}},
                                                 {"host memory", "CUDA"}) == "");
  }
  SUBCASE("an adapter that contradicts itself, forced or not") {
    for (bool const force : {false, true}) {
      auto wrong = a;
      wrong.tensors["w"].positions.back() = shape.product();
      CHECK(refused.operator()<sara::value_error>(wrong, named(weights, shape),
                                                  {"'w'", "positions from 0 and below 600", "got 600"},
                                                  {.force = force}) == "");
      wrong = a;
      wrong.tensors["w"].positions.pop_back();
      CHECK(refused.operator()<sara::value_error>(wrong, named(weights, shape), {"'w'", "one delta a position"},
                                                  {.force = force}) == "");
      wrong = a;
      std::get<std::vector<float>>(wrong.tensors["w"].delta)[1] = std::numeric_limits<float>::infinity();
      CHECK(refused.operator()<sara::value_error>(wrong, named(weights, shape), {"'w'", "finite values, got inf"},
                                                  {.force = force}) == "");
    }
  }
  CHECK(same_bits(weights, base));
}

TEST_CASE("an adapter that has one memory under two names is refused") {
  auto const base = uniform<float>("base", shape.product());
  auto a = adapter_for(base, shape);
  a.tensors["tied"] = a.tensors.at("w");
  auto weights = base;
  std::vector<sara::named_tensor> const both{{"w", sara::view(weights.data(), shape)},
                                             {"tied", sara::view(weights.data(), shape)}};
  CHECK(complaint<sara::value_error>([&] { static_cast<void>(sara::apply(backend, a, both, {.force = true})); },
                                     {"'w' and 'tied' share memory", "got both"}) == "");
  CHECK(same_bits(weights, base));
  a.tensors.erase("tied");
  static_cast<void>(sara::apply(backend, a, both));
  CHECK(same_bits(weights, sum(base, a, 1)));
}

TEST_CASE("force applies to other values and to another dtype; further tensors are left alone") {
  auto const base = uniform<float>("base", shape.product());
  auto const a = adapter_for(base, shape);
  auto other = uniform<sara::bfloat16>("other", shape.product());
  auto const before = other;
  std::vector<float> bystander{1, 2, 3};
  std::vector<sara::named_tensor> const where{{"bias", sara::view(bystander)}, {"w", sara::view(other.data(), shape)}};
  auto applied = sara::apply(backend, a, where, {.force = true});
  CHECK(same_bits(other, sum(before, a, 1)));
  CHECK(bystander == std::vector<float>{1, 2, 3});
  applied.undo();
  CHECK(same_bits(other, before));
}
