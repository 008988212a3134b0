// SPDX-License-Identifier: Apache-2.0
#include "svd.hpp"

template class Eigen::BDCSVD<Eigen::MatrixXf>;
template class Eigen::BDCSVD<Eigen::MatrixXd>;
