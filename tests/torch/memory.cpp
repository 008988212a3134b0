// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <torch/torch.h>

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include <sara/torch/modules.hpp>
#include <sara/torch/sampled_operators.hpp>

#include "optimizers.hpp"

namespace {

/// Counts what libtorch's tensors hold, and the most they held since `peak` was set.
std::atomic<std::int64_t> held{0};
std::atomic<std::int64_t> peak{0};

struct counting_allocator final : c10::Allocator {
  struct block {
    void* data;
    std::int64_t bytes;
  };
  // One of these two overrides, by the version of libtorch, and the third does in version 2 only.
  c10::DataPtr allocate(std::size_t bytes) const { return make(bytes); }
  c10::DataPtr allocate(std::size_t bytes) { return make(bytes); }
  void copy_data(void* to, void const* from, std::size_t bytes) const { std::memcpy(to, from, bytes); }
  [[nodiscard]] static c10::DataPtr make(std::size_t bytes) {
    auto* const data = c10::alloc_cpu(bytes);
    auto const now = held += static_cast<std::int64_t>(bytes);
    for (auto most = peak.load(); most < now && !peak.compare_exchange_weak(most, now);) {
    }
    return {data, new block{data, static_cast<std::int64_t>(bytes)}, &free, c10::Device(c10::DeviceType::CPU)};
  }
  static void free(void* context) {
    auto* const b = static_cast<block*>(context);
    held -= b->bytes;
    c10::free_cpu(b->data);
    delete b;
  }
};

/// In force while it lives; blocks free themselves wherever they end.
struct counted {
  counting_allocator counting;
  c10::Allocator* before = c10::GetCPUAllocator();
  counted() { c10::SetCPUAllocator(&counting, 1); }
  ~counted() { c10::SetCPUAllocator(before, 1); }
};

constexpr std::int64_t layers = 24, width = 320, rows = 4;
constexpr std::int64_t bytes_of_gradient = width * width * 4;  // of one layer

/// The most that a forward and a backward pass hold beside the model.
template <class Prepare>
std::int64_t peak_of_a_pass(Prepare&& prepare) {
  counted const scope;
  torch::manual_seed(61);
  torch::nn::Sequential model;
  for (std::int64_t i = 0; i < layers; ++i)
    model->push_back(torch::nn::Linear(torch::nn::LinearOptions(width, width).bias(false)));
  [[maybe_unused]] auto const optimizer = prepare(*model);  // lives as long as the pass
  auto const x = torch::randn({rows, width});
  auto const before = held.load();
  peak = before;
  model->forward(x).square().mean().backward();
  return peak - before;
}

}  // namespace

TEST_CASE("a backward pass has one or two dense gradients at a time, not one a layer; with sampled layers none") {
  sara::test::recipe<> const settings{.threshold = 1e-3};
  auto const dense = peak_of_a_pass([](auto&) { return 0; });
  auto const gathered = peak_of_a_pass([&](auto& model) { return sara::test::make_optimizer(model, settings); });
  auto const sampled = peak_of_a_pass([&](auto& model) {
    sara::torch::sample_layers(model);
    return sara::test::make_optimizer(model, settings);
  });
  auto const by_operators = peak_of_a_pass([&](auto& model) {
    return std::pair{sara::test::make_optimizer(model, settings), sara::torch::sampled_operators{}};
  });
  CAPTURE(dense);
  CAPTURE(gathered);
  CAPTURE(sampled);
  CAPTURE(by_operators);
  std::int64_t const activations = (layers + 4) * rows * width * 4;
  CHECK(dense >= layers * bytes_of_gradient);
  CHECK(gathered >= bytes_of_gradient);
  CHECK(gathered <= 2 * bytes_of_gradient + activations);
  CHECK(sampled < bytes_of_gradient / 2);  // activations and their gradients
  CHECK(by_operators < bytes_of_gradient / 2);
}
