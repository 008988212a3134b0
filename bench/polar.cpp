// SPDX-License-Identifier: Apache-2.0
// The subgradient of the nuclear norm at the selected entries, U_r V_rᵀ at M, against singular value decompositions.
#include <sara/regularize/nuclear_norm.hpp>

#include <algorithm>
#include <memory>

#include "harness/case.hpp"
#include "harness/inputs.hpp"
#include "peers/svd.hpp"

namespace {

struct work {
  sara::host backend;
  bench::default_store store;
  std::vector<float> values = bench::uniform("values", store.count());
  std::vector<float> gradient = std::vector<float>(values.size());
  double loss = 0;
  std::vector<double> exact = {};  // once it is asked for

  work(std::int64_t rows, std::int64_t cols, double density, int threads)
      : backend{threads}, store{bench::random_store(backend, {rows, cols}, density)} {}

  /// The same in float64, where no singular value of a random matrix is lost.
  [[nodiscard]] std::vector<double> exact_gradient() const {
    std::vector<double> const wide(values.begin(), values.end());
    std::vector<double> out(wide.size());
    double ignored = 0;
    sara::sparse_matrix const matrix{store.ref(), wide.data(), out.data(), &ignored};
    sara::nuclear_norm{.weight = 1, .engine = sara::exact_svd{}}.add(backend, std::span{&matrix, 1});
    return out;
  }

  void add() {
    sara::sparse_matrix const matrix{store.ref(), std::as_const(values).data(), gradient.data(), &loss};
    sara::nuclear_norm{.weight = 1}.add(backend, std::span{&matrix, 1});
  }
};

bench::trial prepare(std::int64_t rows, std::int64_t cols, double density, int threads, bool with_eigen) {
  auto const w = std::make_shared<work>(rows, cols, density, threads);
  // A float32 decomposition loses the smallest singular values of a square matrix, and percents of the result with
  // them: the peer is held to a tenth, and sara to float64.
  auto const difference = [w](bench::dense_polar const& peer) {  // a sum keeps a NaN of either
    if (w->exact.empty()) w->exact = w->exact_gradient();
    return bench::relative_difference(w->exact, w->gradient) +
           1e-3 * bench::relative_difference(w->gradient, peer.result());
  };
  bench::trial t;
  t.tolerance = 1e-4;
  t.sara = {"sara", bench::timed([w] { w->add(); }), w->store.bytes() + 8 * w->store.count()};
  auto const lapack = std::make_shared<bench::dense_polar>(rows, cols, bench::as_index(w->backend, w->store));
  t.peers.push_back({"LAPACK sgesdd (OpenBLAS)", bench::timed([=] { lapack->by_lapack(w->values.data(), threads); }),
                     lapack->bytes(), [=] { return difference(*lapack); }});
  if (with_eigen) {
    auto const eigen = std::make_shared<bench::dense_polar>(rows, cols, bench::as_index(w->backend, w->store));
    t.peers.push_back({"Eigen BDCSVD", bench::timed([=] { eigen->by_eigen(w->values.data(), threads); }),
                       eigen->bytes(), [=] { return difference(*eigen); }});
  }
  // U and V once they are there: the entries at M of their product
  t.flops = 2 * static_cast<double>(w->store.count()) * static_cast<double>(std::min(rows, cols));
  t.bytes = 12 * static_cast<double>(w->store.count());
  return t;
}

std::vector<bench::benchmark> list() {
  std::vector<bench::benchmark> all;
  for (auto const& [rows, cols] : {std::pair{320, 320}, {640, 640}, {1280, 1280}, {1280, 5120}})
    for (double const density : {0.023, 0.058, 0.2}) {
      if (rows == 1280 && density != 0.058) continue;  // a decomposition takes seconds, whatever the density
      bool const with_eigen = cols < 5120;
      all.push_back(
          {.name = "U V^T at M",
           .shape = bench::by(rows, cols),
           .density = density,
           .starred = rows == 320 && density == 0.058,
           .prepare = [=, m = rows, n = cols](int threads) { return prepare(m, n, density, threads, with_eigen); }});
    }
  return all;
}

bench::family const family{"6 polar", list};

}  // namespace
