// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <numeric>
#include <span>
#include <thread>
#include <vector>

#include <sara/backend/host.hpp>
#include <sara/select/concept.hpp>
#include <sara/tensor/vector.hpp>

#include "../support/random.hpp"
#include "../support/reference.hpp"
#include "../support/stores.hpp"

namespace {

using sara::all_positions;
using sara::const_tensor_view;
using sara::host;
using sara::sparse_job;
using sara::test::make_store;
using sara::test::random_positions;
using sara::test::uniform;

/// Whether f(backend), something with ==, is one and the same for any number of threads.
template <class F>
bool same_for_any_threads(F&& f) {
  auto const expected = f(host{1});
  for (int const threads : sara::test::thread_counts)
    if (f(host{threads}) != expected) return false;
  return true;
}

struct value_of {
  double const* values;
  double operator()(std::int64_t slot, std::int64_t) const { return values[slot]; }
};

}  // namespace

TEST_CASE("memory is zeroed, and copies go both ways") {
  host const backend{1};
  auto column = backend.allocate<float>(3);
  CHECK(column == std::vector<float>{0, 0, 0});
  std::vector<float> const from{1, 2, 3};
  backend.upload(std::span{from}, column.data());
  std::vector<float> to(2);
  backend.download(column.data() + 1, std::span{to});
  CHECK(to == std::vector<float>{2, 3});
  backend.upload(std::span<float const>{}, column.data());
  CHECK(column == from);
  backend.synchronize();
}

TEST_CASE("copies share one set of threads") {
  host const backend{3};
  auto const copy = backend;
  CHECK(&backend.threads() == &copy.threads());
  CHECK(copy.threads().size() == 3);
  CHECK(&host{1}.threads() != &backend.threads());
}

TEST_CASE("for_each visits every position of every job once") {
  std::vector<std::int64_t> const sizes{0, 1, 16384, 0, 40000, 5, 0};
  std::vector<std::vector<int>> visits;
  for (auto const n : sizes) visits.emplace_back(static_cast<std::size_t>(n));
  auto const visit_in = [](int* to) { return [to](std::int64_t slot, std::int64_t) { ++to[slot]; }; };
  using job = sparse_job<all_positions, decltype(visit_in(nullptr))>;
  std::vector<job> jobs;
  for (std::size_t i = 0; i < sizes.size(); ++i) jobs.push_back({{sizes[i]}, visit_in(visits[i].data())});
  host const backend{3};
  backend.for_each(std::span<job const>{jobs});
  backend.for_each(std::span<job const>{});
  for (auto const& v : visits) CHECK(std::count(v.begin(), v.end(), 1) == std::ssize(v));
}

TEST_CASE("for_each tells slot and position") {
  host const backend{2};
  auto const store = make_store<sara::flat_index<host>>(backend, {4, 5}, {1, 7, 19});
  std::vector<std::int64_t> seen(3);
  sara::for_each(backend, store.ref(), [to = seen.data()](std::int64_t slot, std::int64_t p) { to[slot] = p; });
  CHECK(seen == std::vector<std::int64_t>{1, 7, 19});
}

TEST_CASE("reduce adds all jobs to what is there, the same bits for any number of threads") {
  auto const a = uniform<double>("a", 100'000);
  auto const b = uniform<double>("b", 17);
  auto const sum = [&](host const& backend) {
    using job = sparse_job<all_positions, value_of>;
    std::vector<job> const jobs{{{std::ssize(a)}, {a.data()}}, {{0}, {nullptr}}, {{std::ssize(b)}, {b.data()}}};
    double out = 1000;
    backend.reduce(std::span<job const>{jobs}, &out);
    return out;
  };
  CHECK(sum(host{1}) ==
        doctest::Approx(1000 + std::accumulate(a.begin(), a.end(), 0.0) + std::accumulate(b.begin(), b.end(), 0.0)));
  CHECK(same_for_any_threads(sum));
}

TEST_CASE("reduce of whole numbers is exact") {
  auto const sum = [](host const& backend) {
    std::uint64_t out = 0;
    sara::reduce(
        backend, all_positions{70'000},
        [](std::int64_t, std::int64_t p) { return sara::mix_bits(static_cast<std::uint64_t>(p)); }, &out);
    return out;
  };
  std::uint64_t expected = 0;
  for (std::uint64_t i = 0; i < 70'000; ++i) expected += sara::mix_bits(i);
  CHECK(sum(host{3}) == expected);
}

TEST_CASE("selection is the same for any number of threads") {
  auto const w = uniform<float>("w", 300'000);
  using scored = sara::scored_tensor<sara::magnitude>;
  scored const tensors[] = {{sara::view(w), {}}, {sara::view(w), {}}};
  CHECK(same_for_any_threads([&](host const& backend) {
    auto const cut = backend.order_statistic(std::span<scored const>{tensors}, 123'456);
    auto const found = backend.compact(tensors[0], cut);
    std::vector<std::int64_t> result(found.positions.begin(), found.positions.end());
    result.push_back(cut.ties);
    return result;
  }));
}

TEST_CASE_TEMPLATE("sampled gradients are the same bits for any number of threads", R, float, double) {
  auto const gradient = [](sara::matrix_shape shape, double density, auto&& add) {
    auto const positions = random_positions("m", shape.size(), density);
    return [=](host const& backend) {
      auto const store = make_store<sara::row_index<host>>(backend, shape, positions);
      std::vector<R> out(positions.size());
      add(backend, store.ref(), out.data());
      return out;
    };
  };
  SUBCASE("product") {
    auto const dy = uniform<R>("dy", 300 * 250), x = uniform<R>("x", 300 * 400);
    for (double const density : {0.1, 0.9})
      CHECK(same_for_any_threads(gradient({250, 400}, density, [&](host const& backend, auto ref, R* out) {
        auto const plan = backend.plan_sampling(ref);
        CHECK(std::ssize(plan.parts()) >= std::min(backend.threads().size(), 3));
        backend.sampled_product(sara::view(dy.data(), {300, 250}), sara::view(x.data(), {300, 400}), ref, plan, out);
      })));
  }
  SUBCASE("convolution") {
    auto const dy = uniform<R>("dy", 2 * 240 * 10 * 32), x = uniform<R>("x", 2 * 60 * 10 * 32);
    for (std::int64_t const groups : {1, 3})
      for (std::int64_t const stride : {1, 2})
        for (double const density : {0.005, 0.04, 0.5}) {  // one copy of X, and one for each column of the kernel
          auto const height = 10 / stride, width = 32 / stride;
          sara::extents const weight{240, 60 / groups, 3, 3}, dy_shape{2, 240, height, width}, x_shape{2, 60, 10, 32};
          auto const shape = sara::conv2d_shape::of(weight, dy_shape, x_shape,
                                                    {.stride = {stride, stride}, .padding = {1, 1}, .groups = groups});
          CHECK(same_for_any_threads(
              gradient(sara::matrix_shape::of(weight), density, [&](host const& backend, auto ref, R* out) {
                auto const plan = backend.plan_sampling(ref);
                CHECK((plan.parts().size() > 1 || backend.threads().size() == 1 || density < 0.1));
                backend.sampled_convolution(shape, sara::view(dy.data(), dy_shape), sara::view(x.data(), x_shape), ref,
                                            plan, out);
              })));
        }
  }
  SUBCASE("rows") {
    auto const dy = uniform<R>("dy", 300 * 90);
    std::vector<std::int64_t> index(300);
    sara::test::sequence numbers{"index"};
    for (auto& row : index) row = numbers.integer(0, 39);
    CHECK(same_for_any_threads(gradient({40, 90}, 0.1, [&](host const& backend, auto ref, R* out) {
      backend.sampled_rows(sara::view(dy.data(), {300, 90}), index, ref, out);
    })));
  }
}

TEST_CASE("two threads of the user on one backend") {
  host const backend{3};
  auto const w = uniform<float>("w", 70'000);
  sara::scored_tensor<sara::magnitude> const scored{sara::view(w), {}};
  sara::key_cut const cut{sara::order_key(0.25), 0};
  auto const expected = backend.compact(scored, cut).positions;
  std::atomic<int> right{0};
  std::vector<std::thread> users;
  for (int user = 0; user < 2; ++user)
    users.emplace_back([&] {
      for (int i = 0; i < 10; ++i) right += backend.compact(scored, cut).positions == expected;
    });
  for (auto& user : users) user.join();
  CHECK(right == 20);
}
