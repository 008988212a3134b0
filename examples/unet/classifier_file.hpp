// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/io/safetensors.hpp>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "classifier.hpp"

namespace unet {

/// Writes a classifier as float16 safetensors; the names of styles and classes are in the metadata.
/// @throws  sara::file_error if the file cannot be written
inline void save_classifier(std::filesystem::path const& file, classifier<float> const& from) {
  sara::safetensors_writer out;
  for (auto const* p : from.parameters()) {
    std::vector<sara::float16> const half(p->values.begin(), p->values.end());
    out.add<sara::float16>(p->name, half, p->shape);
  }
  out.set_metadata("styles", nlohmann::json(from.styles()).dump());
  out.set_metadata("classes", nlohmann::json(from.classes()).dump());
  out.write(file);
}

/// Reads what `save_classifier` wrote.
/// @param pool  must outlive the classifier
/// @throws  sara::file_error if the file is missing, damaged, or not a classifier
[[nodiscard]] inline std::unique_ptr<classifier<float>> load_classifier(std::filesystem::path const& file,
                                                                        sara::thread_pool& pool) {
  auto const in = sara::safetensors::load(file);
  std::vector<std::string> styles, classes;
  try {
    nlohmann::json::parse(in.metadata("styles")).get_to(styles);
    nlohmann::json::parse(in.metadata("classes")).get_to(classes);
  } catch (nlohmann::json::exception const& error) {
    throw sara::file_error(file.string() + ": expected the names of styles and classes, got " + error.what());
  }
  auto result = std::make_unique<classifier<float>>(pool, std::move(styles), std::move(classes));
  for (auto* p : result->parameters()) {
    auto const half = in.read<sara::float16>(p->name, static_cast<std::int64_t>(p->values.size()));
    std::transform(half.begin(), half.end(), p->values.begin(), [](auto x) { return static_cast<float>(x); });
  }
  return result;
}

}  // namespace unet
