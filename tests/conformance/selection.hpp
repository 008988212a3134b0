// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <list>
#include <span>
#include <string>
#include <vector>

#include <sara/backend/concept.hpp>
#include <sara/select/below.hpp>
#include <sara/select/concept.hpp>
#include <sara/select/ranked.hpp>
#include <sara/select/select.hpp>

#include "../support/golden.hpp"
#include "../support/placed.hpp"
#include "../support/random.hpp"
#include "../support/stores.hpp"

namespace sara::test {

/// The cut for `rank` keys by sorting.
[[nodiscard]] inline key_cut sorted_cut(std::vector<std::uint64_t> keys, std::int64_t rank) {
  std::erase(keys, never_key);
  std::sort(keys.begin(), keys.end());
  rank = std::min(rank, std::ssize(keys));
  if (rank <= 0) return {};
  auto const bound = keys[static_cast<std::size_t>(rank) - 1];
  return {bound, rank - (std::lower_bound(keys.begin(), keys.end(), bound) - keys.begin())};
}

/// Tensors of any dtypes in a backend's memory, and the keys of their magnitudes, computed on the host.
template <class Backend>
class pool_of_weights {
 public:
  explicit pool_of_weights(Backend const& backend) : backend_{backend} {}

  template <Scalar T>
  void add(std::vector<T> const& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    std::copy_n(reinterpret_cast<std::byte const*>(values.data()), bytes.size(), bytes.begin());
    auto const& there = there_.emplace_back(backend_, bytes);
    tensors_.push_back(
        {const_tensor_view{reinterpret_cast<T const*>(there.data()), {std::ssize(values)}, Backend::where},
         magnitude{}});
    keys_.emplace_back();
    for (std::size_t i = 0; i < values.size(); ++i)
      keys_.back().push_back(entry_key(magnitude{}, widen(values[i]), static_cast<std::int64_t>(i)));
  }

  [[nodiscard]] std::int64_t size() const {
    std::int64_t n = 0;
    for (auto const& keys : keys_) n += std::ssize(keys);
    return n;
  }

  /// Empty if order_statistic and compact agree with sorting at this rank.
  [[nodiscard]] std::string fault(std::int64_t rank) const {
    std::vector<std::uint64_t> all;
    for (auto const& keys : keys_) all.insert(all.end(), keys.begin(), keys.end());
    auto const expected = sorted_cut(all, rank);
    auto const cut = backend_.order_statistic(std::span<scored_tensor<magnitude> const>{tensors_}, rank);
    if (cut.bound != expected.bound || cut.ties != expected.ties) return "another cut at rank " + std::to_string(rank);
    auto ties = cut.ties;
    for (std::size_t t = 0; t < tensors_.size(); ++t) {
      auto const found = backend_.compact(tensors_[t], {cut.bound, ties});
      std::vector<std::int64_t> positions;
      auto left = ties;
      for (std::size_t i = 0; i < keys_[t].size(); ++i)
        if (auto const key = keys_[t][i]; key != never_key && (key < cut.bound || (key == cut.bound && left-- > 0)))
          positions.push_back(static_cast<std::int64_t>(i));
      ties -= found.ties;
      std::vector<std::int64_t> got(static_cast<std::size_t>(found.count));
      backend_.download(found.positions.data(), std::span{got});
      if (got != positions) return "other positions at rank " + std::to_string(rank);
      if (found.not_finite != std::count(keys_[t].begin(), keys_[t].end(), never_key))
        return "another number of entries that are not finite at rank " + std::to_string(rank);
    }
    return ties == 0 ? "" : "ties left at rank " + std::to_string(rank);
  }

 private:
  Backend backend_;
  std::list<placed<Backend, std::byte>> there_;
  std::vector<scored_tensor<magnitude>> tensors_;
  std::vector<std::vector<std::uint64_t>> keys_;
};

}  // namespace sara::test

TEST_CASE_TEMPLATE_DEFINE("a cut at any rank is that of a sorted list", Place, sara_cuts) {
  using namespace sara::test;
  using pool_type = pool_of_weights<typename Place::backend>;
  std::function<void(pool_type&)> fill;
  SUBCASE("random") {
    fill = [](pool_type& pool) { pool.add(uniform<float>("random", 30'000, 0.1)); };
  }
  SUBCASE("all equal, more than are collected") {
    fill = [](pool_type& pool) { pool.add(std::vector<float>((1 << 20) + 5000, -0.25f)); };
  }
  SUBCASE("few distinct, both zeros among them") {
    fill = [](pool_type& pool) {
      sequence numbers{"few"};
      std::vector<float> w(20'000);
      for (auto& x : w) x = static_cast<float>(numbers.integer(-2, 2)) / 4 * (numbers.integer(0, 1) ? 1.0f : -1.0f);
      pool.add(w);
    };
  }
  SUBCASE("NaN and infinity") {
    fill = [](pool_type& pool) {
      auto w = uniform<float>("laden", 10'000);
      for (std::size_t i = 0; i < w.size(); i += 7) w[i] = std::numeric_limits<float>::quiet_NaN();
      for (std::size_t i = 3; i < w.size(); i += 11) w[i] = std::numeric_limits<float>::infinity();
      for (std::size_t i = 5; i < w.size(); i += 13) w[i] = -std::numeric_limits<float>::infinity();
      pool.add(w);
    };
  }
  SUBCASE("nothing finite") {
    fill = [](pool_type& pool) { pool.add(std::vector<float>(100, std::numeric_limits<float>::quiet_NaN())); };
  }
  SUBCASE("neighbouring doubles, so that all digits count") {
    fill = [](pool_type& pool) {
      std::vector<double> w;
      for (double x = 1; w.size() < 3000; x = std::nextafter(x, 2.0)) w.push_back(w.size() % 2 ? x : -x);
      pool.add(w);
    };
  }
  SUBCASE("several tensors of several types") {
    fill = [](pool_type& pool) {
      pool.add(uniform<float>("a", 1000));
      pool.add(std::vector<sara::float16>{});
      pool.add(uniform<sara::bfloat16>("b", 3000));
      pool.add(uniform<double>("c", 777));
      pool.add(uniform<sara::float16>("d", 2500));
    };
  }
  for (auto const& backend : Place::all()) {
    pool_type pool{backend};
    fill(pool);
    auto const n = pool.size();
    for (std::int64_t const rank : {std::int64_t{0}, std::int64_t{1}, n / 20, n / 3, n * 7 / 10, n - 1, n})
      CHECK(pool.fault(rank) == "");
  }
}

TEST_CASE_TEMPLATE_DEFINE("golden masks of |w| < theta", Place, sara_golden_selection) {
  using namespace sara::test;
  auto const& file = golden("selection.safetensors");
  auto const thetas = file.template read<double>("thetas");
  auto const check = [&]<class T>(typename Place::backend const& backend, std::string const& name, T) {
    CAPTURE(name);
    auto const values = file.template read<T>("w." + name);
    auto const there = place(backend, values);
    auto const mask = file.template read<bool>("mask." + name);
    std::vector<sara::const_named_tensor> const weights{{name, there.view(shape_of(file.at("w." + name)))}};
    for (std::size_t j = 0; j < thetas.size(); ++j) {
      std::vector<bool> const expected(mask.begin() + static_cast<std::ptrdiff_t>(j * values.size()),
                                       mask.begin() + static_cast<std::ptrdiff_t>((j + 1) * values.size()));
      auto const found = sara::select(backend, std::span<sara::const_named_tensor const>{weights},
                                      sara::below{.threshold = thetas[j]});
      std::vector<std::int64_t> got(static_cast<std::size_t>(found[0].count));
      backend.download(found[0].positions.data(), std::span{got});
      CHECK(got == positions_in(expected));
    }
  };
  for (auto const& backend : Place::all()) {
    for (std::string const name : {"lin_f32", "conv_f32", "bias_f32", "edge_f32"}) check(backend, name, 0.0f);
    for (std::string const name : {"lin_f16", "edge_f16"}) check(backend, name, sara::float16{});
    for (std::string const name : {"conv_bf16", "edge_bf16"}) check(backend, name, sara::bfloat16{});
  }
}

TEST_CASE_TEMPLATE_DEFINE("fractions over the model, and at random: what the host selects", Place, sara_policies) {
  using namespace sara::test;
  auto const a = uniform<float>("first", 5000);
  auto const b = uniform<sara::bfloat16>("second", 7000);
  auto const positions = [&](auto const& backend, auto const& selector) {
    auto const first = place(backend, a);
    auto const second = place(backend, b);
    std::vector<sara::const_named_tensor> const weights{{"first", first.view({50, 100})},
                                                        {"second", second.view({7000})}};
    std::vector<std::vector<std::int64_t>> out;
    for (auto const& found : sara::select(backend, std::span<sara::const_named_tensor const>{weights}, selector)) {
      out.emplace_back(static_cast<std::size_t>(found.count));
      backend.download(found.positions.data(), std::span{out.back()});
    }
    return out;
  };
  for (auto const& backend : Place::all()) {
    sara::host const host{1};
    sara::smallest const smallest{.fraction = 0.07};
    CHECK(positions(backend, smallest) == positions(host, smallest));
    sara::largest const largest{.fraction = 0.2, .over = sara::scope::tensor};
    CHECK(positions(backend, largest) == positions(host, largest));
    sara::random const random{.fraction = 0.11, .seed = 5};
    CHECK(positions(backend, random) == positions(host, random));
  }
}

#define SARA_SELECTION_CASES(Place)                        \
  TEST_CASE_TEMPLATE_INVOKE(sara_cuts, Place);             \
  TEST_CASE_TEMPLATE_INVOKE(sara_golden_selection, Place); \
  TEST_CASE_TEMPLATE_INVOKE(sara_policies, Place)
