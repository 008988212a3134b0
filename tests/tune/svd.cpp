// SPDX-License-Identifier: Apache-2.0
#include <Eigen/SVD>

template class Eigen::BDCSVD<Eigen::MatrixXf>;
template class Eigen::BDCSVD<Eigen::MatrixXd>;
