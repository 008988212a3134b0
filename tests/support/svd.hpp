// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/SVD>
#include <optional>

#include <sara/backend/host/polar/qdwh.hpp>

// What finds U Vᵀ takes longer to compile than any test: every unit uses the instantiations of svd.cpp.
extern template class Eigen::BDCSVD<Eigen::MatrixXd>;

namespace sara::detail {
extern template class rational_polar<float>;
extern template class rational_polar<double>;
extern template std::optional<rational_polar<float>> rational_polar_factor(thread_pool&, occupied_matrix const&);
extern template std::optional<rational_polar<double>> rational_polar_factor(thread_pool&, occupied_matrix const&);
}  // namespace sara::detail
