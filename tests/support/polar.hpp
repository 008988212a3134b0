// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include <sara/backend/concept.hpp>

namespace sara::test {

/// polar_factors of one matrix.
template <class Backend, class Engine, Positions P, Real R>
void polar_factor(Backend const& backend, Engine engine, P positions, R const* values, double weight, R* gradient,
                  double* loss) {
  sparse_matrix const matrix{positions, values, gradient, loss};
  backend.polar_factors(engine, std::span{&matrix, 1}, weight);
}

}  // namespace sara::test
