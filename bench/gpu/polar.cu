// SPDX-License-Identifier: Apache-2.0
// The subgradient of the nuclear norm at the selected entries, U_r V_rᵀ at M: the engines against each other and
// against cuSOLVER's Xgesvd.
#include <sara/regularize/nuclear_norm.hpp>
#include <sara/store/row_index.hpp>

#include <algorithm>
#include <memory>

#include "../harness/case.hpp"
#include "harness/station.cuh"
#include "peers/cusolver.cuh"

namespace {

using sara::cuda::device;
using store_type = sara::row_index<device>;

/// Matrices of one shape, as many as a step may regularise together.
struct work {
  bench::station& at;
  std::vector<store_type> stores;
  std::vector<sara::cuda::buffer<float>> values;

  work(bench::station& s, std::int64_t count, sara::matrix_shape shape, double density) : at{s} {
    for (std::int64_t i = 0; i < count; ++i) {
      auto const name = "positions" + std::to_string(i);
      auto const positions = bench::random_positions(name, shape.size(), density);
      stores.emplace_back(s.gpu(), shape, bench::placed_on(s, positions).data(), std::ssize(positions));
      values.push_back(bench::uniform_on<float>(s, "values" + std::to_string(i), stores.back().count()));
    }
  }

  [[nodiscard]] std::int64_t count() const {
    std::int64_t n = 0;
    for (auto const& s : stores) n += s.count();
    return n;
  }
  [[nodiscard]] std::int64_t bytes() const {
    std::int64_t n = 0;
    for (auto const& s : stores) n += s.bytes() + 8 * s.count();
    return n;
  }
};

/// The library's loss with one of its engines.
class engine {
 public:
  engine(std::shared_ptr<work> w, bench::station& at, sara::polar_engine kind)
      : w_{std::move(w)},
        at_{at},
        rule_{.weight = 1, .engine = kind},
        losses_{at.gpu().allocate<double>(std::ssize(w_->stores))} {
    for (auto const& s : w_->stores) gradients_.push_back(at.gpu().allocate<float>(s.count()));
  }

  void add() {
    using matrix = sara::sparse_matrix<store_type::ref_type, float>;
    std::vector<matrix> matrices;
    for (std::size_t i = 0; i < w_->stores.size(); ++i)
      matrices.push_back(matrix{w_->stores[i].ref(), w_->values[i].data(), gradients_[i].data(), losses_.data() + i});
    rule_.add(at_.gpu(), std::span<matrix const>{matrices});
  }

  /// Of the first matrix.
  [[nodiscard]] std::vector<float> gradient() const { return bench::taken_from(at_, gradients_.front()); }

 private:
  std::shared_ptr<work> w_;
  bench::station& at_;
  sara::nuclear_norm rule_;
  sara::cuda::buffer<double> losses_;
  std::vector<sara::cuda::buffer<float>> gradients_;
};

using shared_engine = std::shared_ptr<engine>;

bench::contender by(char const* name, shared_engine const& e, bench::station& at, std::int64_t held,
                    std::function<double()> difference = {}) {
  return bench::on_device(
      at, name, held, [e] { e->add(); }, std::move(difference));
}

/// One matrix. The oracle is the exact engine, in float64; it is timed where that does not take seconds.
bench::trial one_matrix(sara::matrix_shape shape, double density) {
  auto& at = bench::station_of(false);
  auto const w = std::make_shared<work>(at, 1, shape, density);
  auto const make = [&](bench::station& s, sara::polar_engine kind) { return std::make_shared<engine>(w, s, kind); };
  auto const automatic = make(at, sara::automatic_polar{}), express = make(at, sara::polar_express{}),
             exact = make(at, sara::exact_svd{});
  exact->add();
  auto const expected = std::make_shared<std::vector<float>>(exact->gradient());
  auto const fault = [expected](shared_engine const& e) {
    return bench::relative_difference(*expected, e->gradient());
  };
  bench::trial t;
  t.tolerance = 1e-4;
  t.sara = by("sara", automatic, at, w->bytes());
  t.peers.push_back(
      by("sara polar_express", express, at, w->bytes(), [=] { return fault(express) + fault(automatic); }));
  // Its stream is another: what it takes as input is there by then.
  auto& fast = bench::station_of(true);
  at.gpu().synchronize();
  auto const rough = make(fast, sara::polar_express{});
  t.peers.push_back(by("sara polar_express, TF32", rough, fast, w->bytes(), [=] { return fault(rough); }));
  t.peers.back().tolerance = 0.3;  // its small singular values end between zero and one
  auto const svd = std::make_shared<bench::xgesvd_factor<store_type::ref_type>>(at, w->stores.front().ref());
  t.peers.push_back(bench::on_device(
      at, "cuSOLVER Xgesvd", svd->bytes() + w->stores.front().bytes(), [w, svd] { svd->run(w->values.front().data()); },
      [=] { return bench::relative_difference(*expected, svd->result()); }));
  // float32 loses the smallest singular values of a square matrix, and percents of the result with them
  t.peers.back().tolerance = 0.1;
  t.peers.back().goal = 1;
  if (shape.rows <= 320) {
    auto const timed = make(at, sara::exact_svd{});
    t.peers.push_back(by("sara exact_svd", timed, at, w->bytes(), [=] { return fault(timed); }));
  }
  // U and V once they are there: the entries at M of their product
  t.flops = 2 * static_cast<double>(w->count()) * static_cast<double>(std::min(shape.rows, shape.cols));
  t.bytes = 12 * static_cast<double>(w->count());
  return t;
}

/// A model's matrices in one call, against one call each.
bench::trial many_matrices(std::int64_t count, sara::matrix_shape shape, double density) {
  auto& at = bench::station_of(false);
  auto const together =
      std::make_shared<engine>(std::make_shared<work>(at, count, shape, density), at, sara::automatic_polar{});
  auto const w = std::make_shared<work>(at, count, shape, density);
  auto const each = std::make_shared<std::vector<shared_engine>>();
  for (std::int64_t i = 0; i < count; ++i) {
    auto const single = std::make_shared<work>(at, 0, shape, density);
    single->stores.push_back(std::move(w->stores[static_cast<std::size_t>(i)]));
    single->values.push_back(std::move(w->values[static_cast<std::size_t>(i)]));
    each->push_back(std::make_shared<engine>(single, at, sara::automatic_polar{}));
  }
  bench::trial t;
  t.tolerance = 1e-6;
  t.sara = by("sara", together, at, 0);
  t.peers.push_back(bench::on_device(
      at, "sara, one call each", 0,
      [each] {
        for (auto const& e : *each) e->add();
      },
      [=] { return bench::relative_difference(together->gradient(), each->front()->gradient()); }));
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  for (auto const& [rows, cols] : {std::pair{320, 320}, {640, 640}, {1280, 1280}, {1280, 5120}})
    for (double const density : {0.023, 0.058, 0.2}) {
      if (rows == 1280 && density != 0.058) continue;  // a decomposition takes a second, whatever the density
      sara::matrix_shape const shape{rows, cols};
      all.push_back({.name = "U V^T at M",
                     .shape = bench::by(rows, cols),
                     .density = density,
                     .starred = rows <= 640 && density == 0.058,
                     .prepare = [=](int) { return one_matrix(shape, density); }});
    }
  for (auto const& [count, side] : {std::pair{64, 320}, {24, 1280}})
    all.push_back({.name = "U V^T of a model",
                   .shape = std::to_string(count) + " x " + bench::by(side, side),
                   .density = 0.058,
                   .starred = side == 320,
                   .prepare = [=, n = count, s = side](int) {
                     return many_matrices(n, {s, s}, 0.058);
                   }});
  return all;
}

bench::family const family{"6 polar", list};

}  // namespace
