// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <sara/sara.hpp>
#include <sara/tensor/eigen.hpp>

// The program that README.md begins with, over the smallest engine that it fits: a linear layer in Eigen.

namespace {

using dense = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct linear_model {
  dense weight = dense::Random(16, 24) * 0.01f;
  dense x, dy;
};

struct sample {
  dense x, y;
};

std::vector<std::pair<std::string, dense&>> named_weights(linear_model& model) { return {{"weight", model.weight}}; }

float forward(linear_model& model, sample const& batch) {
  model.x = batch.x;
  model.dy = model.x * model.weight.transpose() - batch.y;
  return model.dy.squaredNorm();
}

template <class Layer>
void backward(linear_model const& model, Layer&& layer) {
  layer("weight", model.dy, model.x);
}

}  // namespace

TEST_CASE("the program of the README trains and saves an adapter") {
  constexpr std::int64_t steps = 40;
  linear_model model;
  dense const base = model.weight;
  dense const task = dense::Random(16, 24) * 0.01f;
  std::vector<sample> data(steps);
  for (auto& batch : data) {
    batch.x = dense::Random(32, 24);
    batch.y = batch.x * task.transpose();
  }
  auto const file = std::filesystem::temp_directory_path() / "sara_readme_style.safetensors";
  auto const before = forward(model, data[0]);

  // [readme]
  sara::fine_tuner tuner{sara::host{},
                         named_weights(model),                    // any range of (name, tensor)
                         sara::below{.threshold = 2e-3},          // what learns: |w| < θ
                         sara::nuclear_norm{.weight = 5e-4},      // what keeps it low-rank
                         sara::reselect_halfway{.steps = steps},  // what goes on learning
                         sara::cosine_rate{.steps = steps}};      // AdamW, from the rate of eq. 12
  for (auto const& batch : data) {
    forward(model, batch);
    backward(model, [&](auto name, auto const& dy, auto const& x) {  // the engine's own backward pass
      tuner[name].accumulate(dy, x);                                 // dW at |w| < θ only: never dense
    });
    tuner.step();  // regularise, update, scatter, reselect
  }
  sara::save(tuner.adapter(), file);
  // [/readme]

  CHECK(forward(model, data[0]) < before);
  auto const adapter = sara::load_adapter(file);
  CHECK(adapter.count() == tuner.selected());
  CHECK((base.array() != model.weight.array()).count() <= tuner.selected());
  std::filesystem::remove(file);
}
