// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/SVD>

// Eigen's divide-and-conquer SVD takes longer to compile than any test: every unit uses the instantiation of svd.cpp.
extern template class Eigen::BDCSVD<Eigen::MatrixXf>;
extern template class Eigen::BDCSVD<Eigen::MatrixXd>;
