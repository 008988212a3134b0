// SPDX-License-Identifier: Apache-2.0
#include "inspect.hpp"

#include <sara/sara.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "weights.hpp"

namespace unet {
namespace {

/// Extents as "128x64x3x3".
[[nodiscard]] std::string shape_text(sara::extents const& shape) {
  std::string text;
  for (int d = 0; d < shape.rank(); ++d) {
    if (d > 0) text += 'x';
    text += std::to_string(shape[d]);
  }
  return text;
}

}  // namespace

void inspect_weights(model<float> const& net, std::vector<double> const& thresholds) {
  auto const tunable = tunable_weights();
  std::vector<std::int64_t> below_in_all(thresholds.size());
  std::int64_t all = 0;
  std::printf("%-30s %-14s %9s", "weights of convolutions", "shape", "entries");
  for (double const threshold : thresholds) std::printf("  |w|<%-7.1e", threshold);
  std::puts("");
  auto const print_shares = [&](std::vector<std::int64_t> const& below, std::int64_t of) {
    for (auto const count : below)
      std::printf("  %9.2f %%", 100 * static_cast<double>(count) / static_cast<double>(of));
    std::puts("");
  };
  for (auto const* p : net.parameters()) {
    if (!tunable.contains(p->name)) continue;
    std::vector<std::int64_t> below;
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      auto const small = [limit = thresholds[i]](float w) { return std::abs(static_cast<double>(w)) < limit; };
      below.push_back(std::count_if(p->values.begin(), p->values.end(), small));
      below_in_all[i] += below.back();
    }
    auto const size = static_cast<std::int64_t>(p->values.size());
    all += size;
    std::printf("%-30s %-14s %9lld", p->name.c_str(), shape_text(extents_of(*p)).c_str(), static_cast<long long>(size));
    print_shares(below, size);
  }
  std::printf("%-30s %-14s %9lld", "all of them", "", static_cast<long long>(all));
  print_shares(below_in_all, all);
}

void inspect_adapter(std::filesystem::path const& file) {
  auto const adapter = sara::load_adapter(file);
  std::printf("%-30s %-14s %9s  %9s  %12s  %12s\n", "tensor", "shape", "entries", "density", "largest |dP|",
              "norm of dP");
  std::int64_t size = 0;
  double largest = 0, squares = 0;
  auto const print = [](std::string const& name, std::string const& shape, std::int64_t count, std::int64_t of,
                        double most, double sum) {
    std::printf("%-30s %-14s %9lld  %7.2f %%  %12.4g  %12.4g\n", name.c_str(), shape.c_str(),
                static_cast<long long>(count), 100 * static_cast<double>(count) / static_cast<double>(of), most,
                std::sqrt(sum));
  };
  for (auto const& [name, tensor] : adapter.tensors) {
    double most = 0, sum = 0;
    std::visit(
        [&](auto const& delta) {
          for (auto const d : delta) {
            most = std::max(most, std::abs(static_cast<double>(d)));
            sum += static_cast<double>(d) * static_cast<double>(d);
          }
        },
        tensor.delta);
    print(name, shape_text(tensor.shape), static_cast<std::int64_t>(tensor.positions.size()), tensor.shape.product(),
          most, sum);
    size += tensor.shape.product();
    largest = std::max(largest, most);
    squares += sum;
  }
  print("all of them", "", adapter.count(), std::max<std::int64_t>(size, 1), largest, squares);
  std::printf("%s: %lld bytes\n", file.string().c_str(), static_cast<long long>(std::filesystem::file_size(file)));
}

}  // namespace unet
