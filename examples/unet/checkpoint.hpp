// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sara/io/safetensors.hpp>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"
#include "tokens.hpp"

namespace unet {

/// Writes the weights as float16 safetensors; shape and words are in the metadata.
/// @throws  sara::file_error if the file cannot be written
inline void save_checkpoint(std::filesystem::path const& file, model<float> const& from, vocabulary const& words) {
  sara::safetensors_writer out;
  for (auto const* p : from.parameters()) {
    std::vector<sara::float16> const half(p->values.begin(), p->values.end());
    out.add<sara::float16>(p->name, half, p->shape);
  }
  auto const& shape = from.shape();
  out.set_metadata("shape", nlohmann::json{{"channels", shape.channels},
                                           {"colours", shape.colours},
                                           {"embedding", shape.embedding},
                                           {"classes", shape.classes},
                                           {"attention_from", shape.attention_from}}
                                .dump());
  out.set_metadata("words", nlohmann::json(words.words()).dump());
  out.write(file);
}

/// A model and the words its captions are made of.
struct checkpoint {
  std::unique_ptr<unet::model<float>> model;
  vocabulary words;
};

/// Reads what `save_checkpoint` wrote.
/// @param pool  must outlive the model
/// @throws  sara::file_error if the file is missing, damaged, or not a checkpoint of this network
inline checkpoint load_checkpoint(std::filesystem::path const& file, sara::thread_pool& pool) {
  auto const in = sara::safetensors::load(file);
  model_shape shape;
  vocabulary words;
  try {
    auto const sizes = nlohmann::json::parse(in.metadata("shape"));
    sizes.at("channels").get_to(shape.channels);
    sizes.at("colours").get_to(shape.colours);
    sizes.at("embedding").get_to(shape.embedding);
    sizes.at("classes").get_to(shape.classes);
    sizes.at("attention_from").get_to(shape.attention_from);
    words = vocabulary{nlohmann::json::parse(in.metadata("words")).get<std::vector<std::string>>()};
  } catch (nlohmann::json::exception const& error) {
    throw sara::file_error(file.string() + ": expected the sizes and words of a network, got " + error.what());
  }
  shape.words = words.size();
  checkpoint result{std::make_unique<model<float>>(pool, shape), std::move(words)};
  for (auto* p : result.model->parameters()) {
    auto const half = in.read<sara::float16>(p->name, static_cast<std::int64_t>(p->values.size()));
    for (std::size_t i = 0; i < half.size(); ++i) p->values[i] = static_cast<float>(half[i]);
  }
  return result;
}

}  // namespace unet
