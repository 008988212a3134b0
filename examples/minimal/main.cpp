// SPDX-License-Identifier: Apache-2.0
// One Linear layer in plain arrays learns a new task with the small weights that it hardly uses.
#include <cmath>
#include <cstdio>
#include <vector>

#include <sara/sara.hpp>

int main() {
  constexpr int batch = 64, in = 32, out = 16, steps = 200;
  auto const uniform = [](std::uint64_t stream, std::uint64_t i) {
    return static_cast<float>(static_cast<double>(sara::counter_bits(7, stream, i) >> 11) * 0x1p-52 - 1.0);
  };
  std::vector<float> weight(out * in), target(out * in), x(batch * in), dy(batch * out);
  for (std::size_t i = 0; i < weight.size(); ++i) {
    weight[i] = uniform(0, i);
    target[i] = std::abs(weight[i]) < 0.2f ? uniform(1, i) : weight[i];  // the new task differs where weights are small
  }

  std::vector<sara::named_tensor> const weights{{"linear.weight", sara::view(weight.data(), {out, in})}};
  sara::fine_tuner tuner{sara::host{},
                         weights,
                         sara::below{.threshold = 0.2},
                         sara::reselect_halfway{.steps = steps},
                         sara::adamw{.weight_decay = 0},
                         sara::cosine_rate{.rate = 0.05, .steps = steps}};
  std::printf("%lld of %zu weights learn\n", static_cast<long long>(tuner.learning()), weight.size());

  for (int step = 0; step < steps; ++step) {
    double loss = 0;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = uniform(2 + static_cast<std::uint64_t>(step), i);
    for (std::size_t b = 0; b < batch; ++b)
      for (std::size_t o = 0; o < out; ++o) {
        float error = 0;  // y = x Wᵀ against x targetᵀ
        for (std::size_t i = 0; i < in; ++i) error += x[b * in + i] * (weight[o * in + i] - target[o * in + i]);
        dy[b * out + o] = 2 * error / (batch * out);
        loss += static_cast<double>(error) * error / (batch * out);
      }
    tuner["linear.weight"].accumulate(sara::view(dy.data(), {batch, out}), sara::view(x.data(), {batch, in}));
    auto const report = tuner.step();
    if (step % 40 == 0 || report.reselected || step == steps - 1)
      std::printf("step %3lld  loss %.4f  learning %lld%s\n", static_cast<long long>(report.step), loss,
                  static_cast<long long>(report.learning), report.reselected ? "  (reselected)" : "");
  }
  std::printf("adapter: %lld bytes in minimal.safetensors\n",
              static_cast<long long>(sara::save(tuner.adapter(), "minimal.safetensors")));
}
