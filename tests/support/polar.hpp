// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <sara/backend/concept.hpp>

namespace sara::test {

/// polar_factors of one matrix.
template <class Backend, class Engine, Positions P, Real R>
void polar_factor(Backend const& backend, Engine engine, P positions, R const* values, double weight, R* gradient,
                  double* loss) {
  sparse_matrix const matrix{positions, values, gradient, loss};
  backend.polar_factors(engine, std::span{&matrix, 1}, weight);
}

/// ‖got - exact‖ / ‖exact‖ over the entries; 0 for equal ones, those of zeros too.
template <class R>
[[nodiscard]] double relative_error(std::vector<R> const& got, std::vector<double> const& exact) {
  double error = 0, length = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    auto const off = static_cast<double>(got.at(i)) - exact[i];
    error += off * off;
    length += exact[i] * exact[i];
  }
  return error == 0 ? 0 : std::sqrt(error / length);
}

}  // namespace sara::test
