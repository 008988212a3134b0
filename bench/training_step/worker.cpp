// SPDX-License-Identifier: Apache-2.0
// sara's side of the whole training step: the example's UNet and policies in a process of its own.
// training_step_worker FOLDER THREADS LAMBDA, the weight of the low-rank loss or 0. The protocol:
// bench/harness/process.hpp.
#include <sara/sara.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "../harness/serve.hpp"
#include "checkpoint.hpp"
#include "diffusion.hpp"
#include "sara_gradients.hpp"
#include "tokens.hpp"
#include "weights.hpp"

namespace {

constexpr std::size_t batches = 4, batch = 32;
constexpr std::int64_t side = 32;
constexpr double fraction = 0.2, rate = 3e-4;

/// Random pictures with random conditions, and the same for peers in files.
class inputs {
 public:
  explicit inputs(unet::model_shape const& shape) : values_{static_cast<std::size_t>(shape.colours * side * side)} {
    for (std::size_t i = 0; i < batches * batch; ++i) {
      std::vector<float> image(values_);
      for (std::size_t p = 0; p < values_; ++p)
        image[p] = static_cast<float>(2 * unet::random_uniform(unet::random_bits(1, i), p) - 1);
      images_.push_back(std::move(image));
      std::vector<int> words(unet::random_bits(2, i) % 6);
      for (std::size_t w = 0; w < words.size(); ++w)
        words[w] =
            static_cast<int>(unet::random_bits(unet::random_bits(3, i), w) % static_cast<std::uint64_t>(shape.words));
      tokens_.push_back(std::move(words));
    }
    for (std::size_t b = 0; b < batches; ++b)
      for (std::size_t i = b * batch; i < (b + 1) * batch; ++i) {
        all_[b].images.push_back(images_[i]);
        all_[b].conditions.push_back(
            {static_cast<int>(unet::random_bits(4, i) % static_cast<std::uint64_t>(shape.classes)), tokens_[i]});
        all_[b].times.push_back(static_cast<float>(unet::random_uniform(5, i)));
        all_[b].noise.push_back(unet::random_bits(6, i));
      }
  }

  [[nodiscard]] unet::noisy_batch<float> const& operator[](std::size_t b) const { return all_[b]; }

  void write(std::filesystem::path const& folder) const {
    std::ofstream noisy{folder / "noisy", std::ios::binary}, target{folder / "target", std::ios::binary},
        times{folder / "times", std::ios::binary}, labels{folder / "labels", std::ios::binary},
        tokens{folder / "tokens", std::ios::binary};
    auto const put = [](std::ofstream& to, auto value) {
      to.write(reinterpret_cast<char const*>(&value), sizeof value);
    };
    std::vector<float> noise(values_);
    for (auto const& b : all_)
      for (std::size_t i = 0; i < batch; ++i) {
        unet::mixture<float> const mix{b.times[i]};
        unet::random_normal<float>(b.noise[i], noise);
        for (std::size_t p = 0; p < values_; ++p) {
          put(noisy, mix.signal * b.images[i][p] + mix.noise * noise[p]);
          put(target, mix.signal * noise[p] - mix.noise * b.images[i][p]);
        }
        put(times, b.times[i]);
        put(labels, std::int64_t{b.conditions[i].label});
        for (std::size_t w = 0; w < unet::vocabulary::max_tokens; ++w)
          put(tokens, w < b.conditions[i].tokens.size() ? std::int64_t{b.conditions[i].tokens[w]} : std::int64_t{-1});
      }
  }

 private:
  std::size_t values_;
  std::vector<std::vector<float>> images_;
  std::vector<std::vector<int>> tokens_;
  std::array<unet::noisy_batch<float>, batches> all_;
};

void serve(std::filesystem::path const& folder, int threads, double lambda) {
  auto const idle = bench::status_bytes("VmRSS");
  sara::host const backend{threads};
  auto const base = std::string{UNET_DATA} + "/base.safetensors";
  auto const net = unet::load_checkpoint(base, backend.threads()).model;
  sara::adamw const rule{.beta2 = 0.99, .weight_decay = 0};
  inputs const given{net->shape()};
  given.write(folder);
  std::ofstream{folder / "numbers.json"} << nlohmann::json{
      {"base", base}, {"batches", batches},  {"batch", batch},      {"side", side},           {"fraction", fraction},
      {"rate", rate}, {"beta1", rule.beta1}, {"beta2", rule.beta2}, {"epsilon", rule.epsilon}};
  auto const min_side = lambda > 0 ? 2 : std::numeric_limits<std::int64_t>::max();
  sara::fine_tuner tuner{backend,
                         unet::named_weights(*net),
                         unet::tunable_weights(),
                         sara::smallest{.fraction = fraction},
                         sara::nuclear_norm{.weight = lambda, .min_side = min_side},
                         rule,
                         sara::constant_rate{.rate = rate}};
  unet::sara_gradients gradients{*net, tuner};
  unet::velocity_loss<float> loss{*net};
  std::size_t steps = 0;
  bench::serve(folder, idle, [&] {
    auto const each = loss.differentiate(given[steps++ % batches], side, gradients);
    auto const mean = std::accumulate(each.begin(), each.end(), 0.0) / static_cast<double>(batch);
    tuner.step();
    return mean;
  });
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) throw std::invalid_argument{"expected FOLDER THREADS LAMBDA"};
  serve(argv[1], std::stoi(argv[2]), std::stod(argv[3]));
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "training_step_worker: %s\n", error.what());
  return 1;
}
