// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

namespace unet {

/// One row for each image; row-major like everything else here.
using image_rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Mean and covariance of a set of feature vectors.
struct gaussian {
  Eigen::VectorXd mean;        ///< [d]
  Eigen::MatrixXd covariance;  ///< [d, d]
};

/// Mean and unbiased covariance of the rows.
/// @param features  [n, d], n of at least 2
/// @throws  std::invalid_argument for fewer than two rows
[[nodiscard]] inline gaussian fit_gaussian(Eigen::Ref<image_rows const> const& features) {
  if (features.rows() < 2)
    throw std::invalid_argument{"a covariance needs at least two feature vectors, got " +
                                std::to_string(features.rows())};
  Eigen::MatrixXd const values = features.cast<double>();
  Eigen::VectorXd const mean = values.colwise().mean();
  Eigen::MatrixXd const centred = values.rowwise() - mean.transpose();
  return {mean, centred.transpose() * centred / static_cast<double>(values.rows() - 1)};
}

namespace detail {

/// Symmetric positive semidefinite square root; eigenvalues that rounding made negative count as zero.
[[nodiscard]] inline Eigen::MatrixXd square_root(Eigen::MatrixXd const& matrix) {
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const solver{matrix};
  return solver.eigenvectors() * solver.eigenvalues().cwiseMax(0.0).cwiseSqrt().asDiagonal() *
         solver.eigenvectors().transpose();
}

}  // namespace detail

/// Squared Fréchet distance of two Gaussians: |m₁ − m₂|² + tr(S₁ + S₂ − 2 (S₁^½ S₂ S₁^½)^½).
/// Source: Dowson and Landau, 1982; on features of a classifier it is the FID of Heusel et al., 2017.
/// @throws  std::invalid_argument if the dimensions differ
/// @par Complexity  two symmetric eigen-decompositions, O(d³)
[[nodiscard]] inline double frechet_distance(gaussian const& a, gaussian const& b) {
  if (a.mean.size() != b.mean.size())
    throw std::invalid_argument{"expected Gaussians of one dimension, got " + std::to_string(a.mean.size()) + " and " +
                                std::to_string(b.mean.size())};
  Eigen::MatrixXd const root = detail::square_root(a.covariance);
  // The symmetric product has the eigenvalues of S₁S₂, whose square roots sum up to the trace of the mixed term.
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const mixed{root * b.covariance * root, Eigen::EigenvaluesOnly};
  return (a.mean - b.mean).squaredNorm() + a.covariance.trace() + b.covariance.trace() -
         2 * mixed.eigenvalues().cwiseMax(0.0).cwiseSqrt().sum();
}

/// What the classifier says about a set of images.
struct judgement {
  image_rows features;  ///< [n, d]
  image_rows style;     ///< [n, styles], probabilities
  image_rows category;  ///< [n, classes], probabilities
};

/// How well samples match a style, and what they kept of the base model.
struct figures {
  std::optional<double> style_probability;  ///< mean probability of the target style, in [0, 1]; none if unknown
  double frechet_distance = 0;              ///< of the samples' features to the target's own pictures', lower is better
  double category_accuracy = 0;             ///< share of the samples recognised as the class asked for, in [0, 1]
};

/// Judges samples against a target style.
/// @param samples    of the images to judge, [n]
/// @param originals  of the target's own pictures, [m]
/// @param style      the classifier's number of the target style, or none if it does not know the style
/// @param labels     [n], the class asked for with each sample
/// @throws  std::invalid_argument if the numbers of samples and labels differ, or there is no style of that number
[[nodiscard]] inline figures judge(judgement const& samples, judgement const& originals, std::optional<int> style,
                                   std::span<int const> labels) {
  if (samples.category.rows() != static_cast<Eigen::Index>(labels.size()))
    throw std::invalid_argument{"expected a label for each of " + std::to_string(samples.category.rows()) +
                                " samples, got " + std::to_string(labels.size())};
  if (style && (*style < 0 || *style >= samples.style.cols()))
    throw std::invalid_argument{"expected a style in [0, " + std::to_string(samples.style.cols()) + "), got " +
                                std::to_string(*style)};
  figures result;
  if (style) result.style_probability = samples.style.col(*style).cast<double>().mean();
  result.frechet_distance = frechet_distance(fit_gaussian(samples.features), fit_gaussian(originals.features));
  int right = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    Eigen::Index best = 0;
    samples.category.row(static_cast<Eigen::Index>(i)).maxCoeff(&best);
    right += best == labels[i] ? 1 : 0;
  }
  result.category_accuracy = static_cast<double>(right) / static_cast<double>(labels.size());
  return result;
}

}  // namespace unet
