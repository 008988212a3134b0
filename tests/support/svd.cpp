// SPDX-License-Identifier: Apache-2.0
#include "svd.hpp"

template class Eigen::BDCSVD<Eigen::MatrixXd>;

namespace sara::detail {
template class rational_polar<float>;
template class rational_polar<double>;
template std::optional<rational_polar<float>> rational_polar_factor(thread_pool&, occupied_matrix const&);
template std::optional<rational_polar<double>> rational_polar_factor(thread_pool&, occupied_matrix const&);
}  // namespace sara::detail
