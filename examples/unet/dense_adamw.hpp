// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/io/safetensors.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "dense_gradients.hpp"
#include "model.hpp"

namespace unet {

/// AdamW over all parameters with decoupled decay on matrices, and the moving average of the weights.
/// Decoupled Weight Decay Regularization: Loshchilov and Hutter, 2017.
class dense_adamw {
 public:
  struct settings {
    double beta1 = 0.9;
    double beta2 = 0.99;
    double epsilon = 1e-8;
    double decay = 0.01;
    double clip = 1.0;       ///< largest norm of the gradient
    double average = 0.999;  ///< decay of the moving average, less in the first steps
  };

  dense_adamw(model<float>& of, settings const& how) : model_{of}, how_{how} {
    for (auto const* p : of.parameters()) {
      first_.emplace_back(p->values.size());
      second_.emplace_back(p->values.size());
      average_.push_back(p->values);
    }
  }

  /// @param rate  of this step
  /// @return  norm of the gradient before clipping
  double step(dense_gradients<float>& gradients, double rate) {
    ++steps_;
    auto const norm = gradients.norm();
    auto const scale = static_cast<float>(norm > how_.clip ? how_.clip / norm : 1.0);
    auto const beta1 = static_cast<float>(how_.beta1), beta2 = static_cast<float>(how_.beta2);
    auto const correction1 = 1 / (1 - std::pow(how_.beta1, static_cast<double>(steps_))),
               correction2 = 1 / (1 - std::pow(how_.beta2, static_cast<double>(steps_)));
    auto const size = static_cast<float>(rate * correction1);
    auto const root = static_cast<float>(std::sqrt(correction2)), epsilon = static_cast<float>(how_.epsilon);
    auto const keep = static_cast<float>(
        std::min(how_.average, (1.0 + static_cast<double>(steps_)) / (10.0 + static_cast<double>(steps_))));
    auto const parameters = model_.parameters();
    model_.pool().parallel_for(static_cast<std::int64_t>(parameters.size()), [&](std::int64_t task) {
      auto const i = static_cast<std::size_t>(task);
      auto& p = *parameters[i];
      auto const shrink = static_cast<float>(p.shape.size() > 1 ? 1 - rate * how_.decay : 1.0);
      float* const w = p.values.data();
      float* const m = first_[i].data();
      float* const v = second_[i].data();
      float* const mean = average_[i].data();
      float const* const gradient = gradients[i].data();
      for (std::size_t j = 0; j < p.values.size(); ++j) {
        float const g = scale * gradient[j];
        m[j] = beta1 * m[j] + (1 - beta1) * g;
        v[j] = beta2 * v[j] + (1 - beta2) * g * g;
        w[j] = shrink * w[j] - size * m[j] / (root * std::sqrt(v[j]) + epsilon);
        mean[j] = keep * mean[j] + (1 - keep) * w[j];
      }
    });
    return norm;
  }

  [[nodiscard]] std::int64_t steps() const { return steps_; }

  /// Exchanges the weights with their moving average; twice is nothing.
  void swap_average() {
    for (auto* p : model_.parameters()) p->values.swap(average_[p->index]);
  }

  void save(std::filesystem::path const& file) const {
    sara::safetensors_writer out;
    for (auto const* p : model_.parameters()) {
      out.add(p->name, p->values);
      out.add("first." + p->name, first_[p->index]);
      out.add("second." + p->name, second_[p->index]);
      out.add("average." + p->name, average_[p->index]);
    }
    out.set_metadata("steps", std::to_string(steps_));
    out.write(file);
  }

  void load(std::filesystem::path const& file) {
    auto const in = sara::safetensors::load(file);
    for (auto* p : model_.parameters()) {
      auto const size = static_cast<std::int64_t>(p->values.size());
      p->values = in.read<float>(p->name, size);
      first_[p->index] = in.read<float>("first." + p->name, size);
      second_[p->index] = in.read<float>("second." + p->name, size);
      average_[p->index] = in.read<float>("average." + p->name, size);
    }
    steps_ = std::stoll(in.metadata("steps"));
  }

 private:
  model<float>& model_;
  settings how_;
  std::int64_t steps_ = 0;
  std::vector<std::vector<float>> first_;
  std::vector<std::vector<float>> second_;
  std::vector<std::vector<float>> average_;
};

}  // namespace unet
