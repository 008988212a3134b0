// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/adapter/base_hash.hpp>
#include <sara/backend/host.hpp>
#include <sara/error.hpp>
#include <sara/torch/named_weights.hpp>
#include <sara/torch/tensor.hpp>

namespace sara::torch {

namespace detail {

/// What the published optimizer saves: the values at M of each parameter, by its number in the model.
struct published_state {
  std::vector<std::pair<std::int64_t, at::Tensor>> values;
  std::optional<double> threshold;
};

/// The parameters of a model as Python numbers them: one that has two names counts once, by the first.
[[nodiscard]] inline named_tensors numbered_weights(::torch::nn::Module const& model) {
  named_tensors out;
  for (auto& weight : named_weights(model))
    if (std::none_of(out.begin(), out.end(), [&](auto const& other) { return other.second.is_same(weight.second); }))
      out.push_back(std::move(weight));
  return out;
}

[[nodiscard]] inline published_state read_published(std::filesystem::path const& path) {
  using sara::detail::require;
  std::ifstream in{path, std::ios::binary};
  require<file_error>(in.good(), path.string(), ": expected a readable file, got none");
  std::vector<char> const bytes{std::istreambuf_iterator<char>{in}, {}};
  published_state out;
  try {
    for (auto const& entry : ::torch::jit::pickle_load(bytes).toGenericDict()) {
      if (entry.key().isInt() && entry.value().isTensor())
        out.values.emplace_back(entry.key().toInt(), entry.value().toTensor().detach());
      else if (entry.key().isString() && entry.key().toStringRef() == "threshold" && entry.value().isDouble())
        out.threshold = entry.value().toDouble();
      else
        throw file_error(path.string() +
                         ": expected numbers of parameters with their values, and a threshold, got "
                         "another entry");
    }
  } catch (error const&) {
    throw;
  } catch (std::exception const& e) {  // libtorch's sentence, without its stack trace
    std::string const why = e.what();
    throw file_error(path.string() +
                     ": expected a dictionary saved by torch.save, got: " + why.substr(0, why.find('\n')));
  }
  return out;
}

}  // namespace detail

/// An adapter from a state that the published optimizer saved (`torch.save(optimizer.save_params(), "unet.pt")`).
///
/// Such a file holds values without positions. They are rebuilt from the base model: the entries of parameter i with
/// |w| < θ, row-major, where i counts the model's parameters in their order, tied ones once. That works only on the
/// model that it was trained on, in the dtype that it was trained in; a number of values that does not fit is refused,
/// another base model of equal counts cannot be told.
/// @param base       the model before training; not changed
/// @param threshold  θ, for a file that does not have one
/// @throws file_error   if the file cannot be read or holds something else
/// @throws value_error  without a threshold, or where a tensor has another number of values than entries below it
/// @throws name_error   for a parameter that the model does not have
/// Complexity: one read of the file, and of the base weights for positions and hash.
/// Example: tests/torch/published.cpp
[[nodiscard]] inline adapter load_published(std::filesystem::path const& path, ::torch::nn::Module const& base,
                                            std::optional<double> threshold = {}) {
  using sara::detail::require;
  auto const file = detail::read_published(path);
  if (file.threshold) threshold = file.threshold;
  require<value_error>(threshold.has_value(), path.string(),
                       ": expected a threshold in the file or as an argument, got neither");
  auto const weights = detail::numbered_weights(base);
  sara::adapter out;
  for (auto const& [number, values] : file.values) {
    require<name_error>(number >= 0 && number < std::ssize(weights), path.string(), ": expected parameters 0 to ",
                        std::ssize(weights) - 1, " of the base model, got ", number);
    auto const& [name, weight] = weights[static_cast<std::size_t>(number)];
    auto const here = weight.detach().to(at::kCPU);
    auto const flat = here.reshape({-1});
    auto const positions = at::nonzero(flat.abs().lt(*threshold)).squeeze(1);
    require<value_error>(
        values.dim() == 1 && values.numel() == positions.numel(), path.string(), ": '", name, "': expected ",
        positions.numel(), " values for the entries below ", *threshold, " of the base weights, got ", values.numel(),
        ": its positions cannot be rebuilt from this base model, threshold and dtype (", weight.scalar_type(), ")");
    if (positions.numel() == 0) continue;
    auto const view = sara::view(here);
    adapter_tensor tensor{view.shape(), view.type(), base_hash(host{}, view), {}, {}};
    auto const* const p = positions.data_ptr<std::int64_t>();
    tensor.positions.assign(p, p + positions.numel());
    auto const fill = [&]<class R>(std::vector<R> delta) {
      auto const difference = (values.to(at::kCPU, c10::CppTypeToScalarType<R>::value) -
                               flat.index_select(0, positions).to(c10::CppTypeToScalarType<R>::value))
                                  .contiguous();
      auto const* const d = difference.template data_ptr<R>();
      delta.assign(d, d + difference.numel());
      tensor.delta = std::move(delta);
    };
    tensor.type == dtype::float64 ? fill(std::vector<double>{}) : fill(std::vector<float>{});
    out.tensors.emplace(name, std::move(tensor));
  }
  return out;
}

}  // namespace sara::torch
