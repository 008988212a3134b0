// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/store/flat_index.hpp>
#include <sara/tune/fine_tuner.hpp>

#include "../support/mlp.hpp"
#include "../support/scratch.hpp"

namespace {

using sara::test::golden_samples;
using model_type = sara::test::mlp<sara::bfloat16>;  // has masters

/// The host, until its memory runs out: after so many allocations that are not empty.
struct running_out : sara::host {
  static constexpr auto never = std::numeric_limits<std::int64_t>::max();
  std::shared_ptr<std::int64_t> left = std::make_shared<std::int64_t>(never);

  running_out() : sara::host{1} {}
  template <class T>
  [[nodiscard]] buffer<T> allocate(std::int64_t n) const {
    if (n > 0 && --*left < 0) throw std::bad_alloc{};
    return sara::host::allocate<T>(n);
  }
};

auto tuner_of(running_out const& backend, model_type& model, std::vector<std::int64_t> const& reselect) {
  return sara::fine_tuner{backend,
                          model.weights(),
                          sara::store_as<sara::flat_index>{},
                          sara::below{.threshold = 0.08},
                          sara::nuclear_norm{.weight = 1e-3, .min_side = 2},
                          sara::reselect_at{.steps = reselect},
                          sara::constant_rate{.rate = 0.02}};
}

template <class Tuner>
void train(Tuner& tuner, model_type const& model, int steps) {
  for (int step = 0; step < steps; ++step) {
    model.backward(tuner, golden_samples<float>(8 * step, 8));
    tuner.step();
  }
}

/// Whether f ends with so many allocations left.
template <class F>
bool ends_with(running_out const& backend, std::int64_t left, F&& f) {
  *backend.left = left;
  bool ended = true;
  try {
    f();
  } catch (std::bad_alloc const&) {
    ended = false;
  }
  *backend.left = running_out::never;
  return ended;
}

}  // namespace

TEST_CASE("a reselection that finds no memory has not been") {
  model_type never;
  auto expected = tuner_of({}, never, {});
  train(expected, never, 3);
  auto const at_switch = expected.collect_state().bytes();
  train(expected, never, 2);

  std::int64_t in_step = 0;  // allocations before the switch
  running_out const unbounded;
  {
    model_type model;
    auto tuner = tuner_of(unbounded, model, {});
    train(tuner, model, 2);
    model.backward(tuner, golden_samples<float>(16, 8));
    while (!ends_with(unbounded, in_step, [&] { tuner.step(); })) ++in_step;
  }
  for (auto allocations = in_step;; ++allocations) {
    CAPTURE(allocations);
    running_out const backend;
    model_type model;
    auto tuner = tuner_of(backend, model, {3});
    train(tuner, model, 2);
    model.backward(tuner, golden_samples<float>(16, 8));
    if (ends_with(backend, allocations, [&] { tuner.step(); })) {
      CHECK(tuner.learning() < expected.learning());
      CHECK(allocations > in_step + 10);
      break;
    }
    CHECK(tuner.steps() == 3);
    CHECK(tuner.collect_state().bytes() == at_switch);
    train(tuner, model, 2);
    CHECK(model.same_as(never));
  }
}

TEST_CASE("a state that finds no memory changes nothing") {
  sara::test::scratch const folder;
  model_type trained;
  auto first = tuner_of({}, trained, {2});
  train(first, trained, 4);
  first.save_state(folder / "state");

  running_out const backend;
  model_type model;
  auto tuner = tuner_of(backend, model, {});
  train(tuner, model, 3);
  auto const before = model;
  auto const state = tuner.collect_state().bytes();
  std::int64_t allocations = 0;
  while (!ends_with(backend, allocations, [&] { tuner.load_state(folder / "state"); })) {
    CAPTURE(allocations);
    CHECK(model.same_as(before));
    CHECK(tuner.collect_state().bytes() == state);
    ++allocations;
  }
  CHECK(allocations > 10);
  CHECK(model.same_as(trained));
  CHECK(tuner.collect_state().bytes() == first.collect_state().bytes());
}
