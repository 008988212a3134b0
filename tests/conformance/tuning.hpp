// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sara/adapter/apply.hpp>
#include <sara/adapter/file.hpp>
#include <sara/backend/host.hpp>
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/schedule/rates.hpp>
#include <sara/schedule/reselection.hpp>
#include <sara/select/below.hpp>
#include <sara/tune/fine_tuner.hpp>
#include <sara/update/adamw.hpp>

#include "../support/bits.hpp"
#include "../support/compare.hpp"
#include "../support/mlp.hpp"
#include "../support/placed.hpp"
#include "../support/reference.hpp"
#include "../support/scratch.hpp"

namespace sara::test {

/// The network of the golden trajectories with its weights in a backend's memory. Its passes run on the host, on a copy
/// of the weights, and hand (dY, X) to a tuner by way of that memory.
template <Scalar T, class Backend>
class placed_mlp {
 public:
  explicit placed_mlp(Backend const& backend) : backend_{backend} {
    for (std::size_t i = 0; i < model_.names.size(); ++i) weights_.emplace_back(backend, model_[i]);
  }

  [[nodiscard]] std::vector<named_tensor> weights() {
    std::vector<named_tensor> out;
    auto const like = model_.weights();
    for (std::size_t i = 0; i < like.size(); ++i)
      out.push_back({like[i].name, weights_[i].view(like[i].tensor.shape())});
    return out;
  }

  /// The host's copy, as it is in the backend's memory now.
  [[nodiscard]] mlp<T> const& on_host() {
    for (std::size_t i = 0; i < weights_.size(); ++i) model_[i] = weights_[i].get();
    return model_;
  }

  template <class Tuner, Real R>
  R backward(Tuner& tuner, samples<R> const& data) {
    auto sink = [&](std::string_view name) { return placing_handle<R, decltype(tuner[name])>{backend_, tuner[name]}; };
    struct tuner_like {
      decltype(sink)& of;
      auto operator[](std::string_view name) { return of(name); }
    } placing{sink};
    return on_host().backward(placing, data);
  }

 private:
  template <Real R, class Handle>
  struct placing_handle {
    Backend backend;
    Handle handle;

    [[nodiscard]] placed<Backend, R> placed_copy(const_tensor_view const& v) const {
      auto const* const data = v.template as<R>().data;
      return {backend, std::vector<R>(data, data + v.size())};
    }
    void accumulate(const_tensor_view const& dy, const_tensor_view const& x) {
      auto const left = placed_copy(dy);
      auto const right = placed_copy(x);
      handle.accumulate(left.view(dy.shape()), right.view(x.shape()));
    }
    void accumulate_bias(const_tensor_view const& dy) {
      auto const left = placed_copy(dy);
      handle.accumulate_bias(left.view(dy.shape()));
    }
  };

  Backend backend_;
  mlp<T> model_;
  std::vector<placed<Backend, T>> weights_;
};

struct placed_recipe {
  double threshold = 0.08;
  double lambda = 0;
  std::vector<std::int64_t> reselect = {};
  adamw rule = {};
  cosine_rate rate = {.rate = 0.01, .floor = 1};  // constant
  double clip = std::numeric_limits<double>::infinity();
  bool in_backward = false;
};

template <Real R, class Backend>
[[nodiscard]] auto make_placed_tuner(Backend const& backend, std::vector<named_tensor> const& weights,
                                     placed_recipe const& r) {
  return fine_tuner{backend,
                    weights,
                    compute_in<R>{},
                    below{.threshold = r.threshold},
                    nuclear_norm{.weight = r.lambda, .min_side = r.lambda == 0 ? 1'000'000 : 12},
                    reselect_at{.steps = r.reselect},
                    r.rule,
                    r.rate,
                    clip_norm{r.clip},
                    update_in_backward{r.in_backward}};
}

template <class Place, Real R>
void check_golden_trajectory() {
  constexpr bool is_double = std::same_as<R, double>;
  tolerance const for_values{is_double ? 1e-9 : 5e-6, 0};
  auto const& file = golden("sara_mlp.safetensors");
  auto const hyper = file.template read<double>("hyper");
  auto const data = golden_samples<R>();
  for (auto const& backend : Place::all())
    for (std::string const run : {"plain", "prog", "full", "full, in the backward pass"}) {
      CAPTURE(run);
      bool const switches = run != "plain";
      bool const full = run.starts_with("full"), in_backward = run.ends_with("pass");
      std::string const reference = full ? "full" : run;
      placed_mlp<R, typename Place::backend> model{backend};
      auto tuner = make_placed_tuner<R>(
          backend, model.weights(),
          {.threshold = hyper[0],
           .lambda = full ? hyper[6] : 0,
           .reselect = switches ? std::vector<std::int64_t>{30} : std::vector<std::int64_t>{},
           .rule = {.beta1 = hyper[2], .beta2 = hyper[3], .epsilon = hyper[4], .weight_decay = hyper[5]},
           .rate = {.rate = hyper[1], .steps = 60},
           .in_backward = in_backward});
      std::vector<double> losses;
      for (int t = 1; t <= 60; ++t) {
        losses.push_back(static_cast<double>(model.backward(tuner, data)));
        if (in_backward)
          for (auto const& w : model.weights()) tuner.update_in_backward(w.name);
        auto const report = tuner.step();
        CHECK(report.reselected == (switches && t == 30));
        if (t % 10 != 0) continue;
        for (std::size_t i = 0; i < mlp<R>::names.size(); ++i) {
          std::string const name = mlp<R>::names[i];
          auto const mask = file.template read<bool>("mask1." + name);
          std::vector<std::int64_t> positions;
          for (std::size_t p = 0; p < mask.size(); ++p)
            if (mask[p]) positions.push_back(static_cast<std::int64_t>(p));
          auto const n = std::ssize(positions);
          auto const all = file.template read<double>(reference + ".values." + name);
          CHECK(difference(at_positions(model.on_host()[i], positions),
                           std::vector<double>(all.begin() + t / 10 * n, all.begin() + (t / 10 + 1) * n),
                           for_values) == "");
        }
      }
      CHECK(difference(losses, file.template read<double>(reference + ".loss"),
                       {is_double ? 1e-9 : 0, is_double ? 0 : 5e-6}) == "");
    }
}

}  // namespace sara::test

TEST_CASE_TEMPLATE_DEFINE("60 steps of a network, as the reference took them", Place, sara_trajectory) {
  sara::test::check_golden_trajectory<Place, double>();
  sara::test::check_golden_trajectory<Place, float>();
}

TEST_CASE_TEMPLATE_DEFINE("16-bit weights keep a master: what the host does, to rounding", Place, sara_masters) {
  using namespace sara::test;
  auto const train = [&]<class Backend>(Backend const& backend) {
    placed_mlp<sara::bfloat16, Backend> model{backend};
    auto tuner = make_placed_tuner<float>(backend, model.weights(), {.reselect = {10}, .clip = 0.05});
    std::vector<double> norms;
    for (int t = 0; t < 20; ++t) {
      model.backward(tuner, golden_samples<float>());
      norms.push_back(tuner.step().gradient_norm());
    }
    return std::pair{model.on_host(), norms};
  };
  auto const [expected, norms] = train(sara::host{1});
  for (auto const& backend : Place::all()) {
    auto const [got, got_norms] = train(backend);
    CHECK(difference(got_norms, norms, {0, 1e-3}) == "");
    for (std::size_t i = 0; i < got.names.size(); ++i) {
      std::vector<double> a, b;
      for (auto const w : got[i]) a.push_back(static_cast<double>(sara::widen(w)));
      for (auto const w : expected[i]) b.push_back(static_cast<double>(sara::widen(w)));
      CHECK(difference(a, b, {1e-4, 1e-2}) == "");
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("the same run twice gives the same bits; a saved state goes on bit by bit", Place,
                          sara_resume) {
  using namespace sara::test;
  placed_recipe const recipe{.lambda = 1e-3, .reselect = {6}, .clip = 0.1};
  for (auto const& backend : Place::all()) {
    scratch const folder;
    auto const data = golden_samples<float>();
    auto const run = [&](int first, int last, bool loads) {
      placed_mlp<float, typename Place::backend> model{backend};
      auto tuner = make_placed_tuner<float>(backend, model.weights(), recipe);
      if (loads) tuner.load_state(folder / "state");
      for (int t = first; t < last; ++t) {
        model.backward(tuner, data);
        tuner.step();
      }
      if (!loads) tuner.save_state(folder / "state");
      return model.on_host();
    };
    auto const whole = run(0, 12, false);
    CHECK(run(0, 12, false).same_as(whole));
    static_cast<void>(run(0, 4, false));
    CHECK(run(4, 12, true).same_as(whole));
    static_cast<void>(run(0, 8, false));
    CHECK(run(8, 12, true).same_as(whole));
  }
}

TEST_CASE_TEMPLATE_DEFINE("an adapter trained here applies here and on the host, and is undone", Place, sara_adapters) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    placed_mlp<float, typename Place::backend> model{backend};
    auto const base = model.on_host();
    auto tuner = make_placed_tuner<float>(backend, model.weights(), {});
    for (int t = 0; t < 5; ++t) {
      model.backward(tuner, golden_samples<float>());
      tuner.step();
    }
    auto const trained = model.on_host();
    auto const adapter = tuner.adapter();

    placed_mlp<float, typename Place::backend> other{backend};
    auto applied = sara::apply(backend, adapter, other.weights());
    auto on_host = base;
    auto const applied_on_host = sara::apply(sara::host{1}, adapter, on_host.weights());
    CHECK(other.on_host().same_as(on_host));
    for (std::size_t i = 0; i < trained.names.size(); ++i) CHECK(difference(on_host[i], trained[i], {1e-7, 0}) == "");
    applied.rescale(0.5);
    CHECK(!other.on_host().same_as(on_host));
    applied.undo();
    CHECK(other.on_host().same_as(base));
  }
}

TEST_CASE_TEMPLATE_DEFINE("accumulation over passes, and what a step reports", Place, sara_reports) {
  using namespace sara::test;
  for (auto const& backend : Place::all()) {
    auto weight = place(backend, std::vector<float>{0.5f, 1e-3f, -1e-3f, 0.25f});
    std::vector<sara::named_tensor> const weights{{"w", weight.view({2, 2})}};
    auto tuner = make_placed_tuner<float>(
        backend, weights, {.threshold = 0.01, .rule = {.weight_decay = 0}, .rate = {.rate = 0.1, .floor = 1}});
    CHECK(tuner.learning() == 2);
    auto const dw = place(backend, std::vector<float>{9, 1, -2, 9});
    for (int pass = 0; pass < 2; ++pass) tuner["w"].accumulate(dw.view({2, 2}));
    auto const report = tuner.step();
    CHECK(report.gradient_norm() == doctest::Approx(std::sqrt(20.0)));
    CHECK(report.at_or_above() == 2);
    // AdamW's first step goes by the rate, against the sign of the gradient
    CHECK(difference(weight.get(), std::vector<double>{0.5, 1e-3 - 0.1, -1e-3 + 0.1, 0.25}, {1e-6, 0}) == "");
    CHECK(tuner.memory().total() > 0);
  }
}

#define SARA_TUNING_CASES(Place)                     \
  TEST_CASE_TEMPLATE_INVOKE(sara_trajectory, Place); \
  TEST_CASE_TEMPLATE_INVOKE(sara_masters, Place);    \
  TEST_CASE_TEMPLATE_INVOKE(sara_resume, Place);     \
  TEST_CASE_TEMPLATE_INVOKE(sara_adapters, Place);   \
  TEST_CASE_TEMPLATE_INVOKE(sara_reports, Place)
