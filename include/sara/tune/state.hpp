// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <sara/adapter/file.hpp>
#include <sara/error.hpp>
#include <sara/io/json.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/store/concept.hpp>
#include <sara/tune/arena.hpp>
#include <sara/tune/on_host.hpp>
#include <sara/tune/segment.hpp>

/// The state of a fine_tuner as one safetensors file. R is the type of computation, F32 or F64.
///
/// For each tensor `<name>.positions` and `<name>.original`, `<name>.value` [selected]; `<name>.reselected`, the
/// positions that still learn, once there was a reselection; `<name>.gradient`, `<name>.moment0` … [learning], and
/// `<name>.master` [learning] where the weight's dtype is not R.
/// Metadata: `format` = "sara.state", `format_version` = "1", `sara_version`, and `state`: a JSON object with `steps`,
/// `moments`, and `tensors`: for each name its `shape`, its `base` hash, the `threshold` of its selection, the steps
/// `t` of its moments, and whether it has a `gradient`.
namespace sara::detail {

/// As JSON, which has no infinity: null, a number, or "infinite".
[[nodiscard]] inline nlohmann::json threshold_fact(std::optional<double> threshold) {
  if (!threshold) return nullptr;
  return std::isinf(*threshold) ? nlohmann::json("infinite") : nlohmann::json(*threshold);
}

[[nodiscard]] inline std::optional<double> threshold_of(nlohmann::json const& fact) {
  if (fact.is_null()) return {};
  return fact == "infinite" ? std::numeric_limits<double>::infinity() : fact.get<double>();
}

template <class Backend, Real R>
class state_writer {
 public:
  state_writer(Backend const& backend, int moments) : backend_{backend}, moments_{moments} {}

  template <class Segment>
  [[nodiscard]] safetensors_writer collect(std::vector<Segment> const& segments, arena<Backend, R> const& columns,
                                           std::int64_t steps) const {
    safetensors_writer file;
    nlohmann::json state{{"steps", steps}, {"moments", moments_}, {"tensors", nlohmann::json::object()}};
    for (auto const& s : segments) {
      state["tensors"][s.name] = {{"shape", json_of(s.weights.shape())},
                                  {"base", hex_of(s.base_hash)},
                                  {"threshold", threshold_fact(s.threshold)},
                                  {"t", s.t},
                                  {"gradient", s.phase == step_phase::has_gradient}};
      add_positions(file, s.name + ".positions", s.weights.size(), positions_of(backend_, s.selected));
      if (s.reselected)
        add_positions(file, s.name + ".reselected", s.weights.size(), positions_of(backend_, *s.reselected));
      file.add(s.name + ".original", s.original);
      file.add(s.name + ".value", values_on_host<R>(backend_, s.weights, s.selected));
      auto const* const gradient = columns.gradient_of(s);
      file.add(s.name + ".gradient",
               gradient ? on_host(backend_, gradient, s.count()) : std::vector<R>(static_cast<std::size_t>(s.count())));
      for (int k = 0; k < moments_; ++k)
        file.add(s.name + ".moment" + std::to_string(k),
                 on_host(backend_, columns.moments() + k * columns.slots() + s.first, s.count()));
      if (s.has_master()) file.add(s.name + ".master", on_host(backend_, columns.master() + s.first, s.count()));
    }
    file.set_metadata("format", "sara.state");
    file.set_metadata("format_version", "1");
    file.set_metadata("sara_version", version);
    file.set_metadata("state", dump_json("fine_tuner's state", state));
    return file;
  }

 private:
  Backend const& backend_;
  int moments_;
};

/// What a state file holds, checked against the tensors of a tuner; nothing of that tuner is changed.
template <class Backend, Real R, class Store>
struct loaded_state {
  std::vector<segment<Backend, Store, R>> segments;
  std::vector<typename Backend::template buffer<R>> values;  // of each segment, [selected]
  detail::arena<Backend, R> arena;
  std::int64_t steps = 0;
};

template <class Backend, Real R, class Store>
class state_reader {
 public:
  /// @param lends_gradients  of the arena that it makes
  state_reader(Backend const& backend, int moments, bool lends_gradients)
      : backend_{backend}, moments_{moments}, lends_gradients_{lends_gradients} {}

  [[nodiscard]] loaded_state<Backend, R, Store> read(safetensors const& file,
                                                     std::vector<segment<Backend, Store, R>> const& tensors) const {
    require<file_error>(file.metadata("format") == "sara.state" && file.metadata("format_version") == "1", file.path(),
                        ": expected format 'sara.state' 1, got '", file.metadata("format"), "' ",
                        file.metadata("format_version"));
    try {
      return read(file, parse_json(file.path(), file.metadata("state")), tensors);
    } catch (nlohmann::json::exception const& e) {
      throw file_error(text(file.path(), ": expected a description of the state, got ", e.what()));
    }
  }

 private:
  [[nodiscard]] loaded_state<Backend, R, Store> read(safetensors const& file, nlohmann::json const& state,
                                                     std::vector<segment<Backend, Store, R>> const& tensors) const {
    require<value_error>(state.at("moments") == moments_, file.path(), ": expected the state of an update rule with ",
                         moments_, " moments, as this one, got ", told(state.at("moments")));
    auto const& facts = state.at("tensors");
    require<name_error>(facts.size() == tensors.size(), file.path(), ": expected ", tensors.size(), " tensors, got ",
                        facts.size());
    loaded_state<Backend, R, Store> out;
    out.steps = read_count(file.path(), "steps", state.at("steps"), std::int64_t{1} << 53);  // what JSON holds anywhere
    for (auto const& tensor : tensors) {
      require<name_error>(facts.contains(tensor.name), file.path(), ": expected a tensor '", tensor.name,
                          "', got none of that name");
      auto const& fact = facts.at(tensor.name);
      auto const where = file.path() + ": '" + tensor.name + "'";
      auto const t = read_count(where, "steps of moments", fact.at("t"), out.steps);
      auto const shape = read_extents(where, fact.at("shape"));
      require<shape_error>(shape == tensor.weights.shape(), where, ": expected extents ", tensor.weights.shape(),
                           ", got ", shape);
      auto const threshold = threshold_of(fact.at("threshold"));
      require<file_error>(!threshold || *threshold >= 0, where, ": expected a threshold of at least 0, got ",
                          threshold.value_or(0));
      auto const& values = file.at(tensor.name + ".value");
      require<value_error>(values.type == stored_name<R>, where, ": expected a state computed in ", stored_name<R>,
                           ", got ", values.type);
      require<base_error>(hash_of_hex(where, fact.at("base").template get<std::string>()) == tensor.base_hash, where,
                          ": expected the base weights that the state was made from, got other ones");
      auto const positions = read_positions(file, tensor.name + ".positions", tensor.weights.size());
      out.segments.push_back(
          {.name = tensor.name,
           .weights = tensor.weights,
           .selected = store_of(tensor, positions),
           .threshold = threshold,
           .not_finite = tensor.not_finite,
           .base_hash = tensor.base_hash,
           .original = file.read<R>(tensor.name + ".original", std::ssize(positions)),
           .t = t,
           .phase = fact.at("gradient").template get<bool>() ? step_phase::has_gradient : step_phase::untouched,
           .frozen = tensor.frozen});
      if (file.contains(tensor.name + ".reselected")) {
        auto const left = read_positions(file, tensor.name + ".reselected", tensor.weights.size());
        require<file_error>(std::includes(positions.begin(), positions.end(), left.begin(), left.end()), where,
                            ": expected reselected positions among those selected, got others");
        out.segments.back().reselected = store_of(tensor, left);
      }
      out.values.push_back(backend_.template allocate<R>(std::ssize(positions)));
      put(file.read<R>(tensor.name + ".value", std::ssize(positions)), out.values.back().data());
    }
    out.arena = make_arena<R>(backend_, out.segments, moments_, lends_gradients_);
    for (auto& s : out.segments) {
      auto const gradient = file.read<R>(s.name + ".gradient", s.count());
      if (s.phase == step_phase::has_gradient) put(gradient, out.arena.gradient_of(backend_, s));
      for (int k = 0; k < moments_; ++k)
        put(file.read<R>(s.name + ".moment" + std::to_string(k), s.count()),
            out.arena.moments() + k * out.arena.slots() + s.first);
      if (s.has_master()) put(file.read<R>(s.name + ".master", s.count()), out.arena.master() + s.first);
    }
    return out;
  }

  [[nodiscard]] Store store_of(segment<Backend, Store, R> const& tensor,
                               std::vector<std::int64_t> const& positions) const {
    auto on_backend = backend_.template allocate<std::int64_t>(std::ssize(positions));
    backend_.upload(std::span{positions}, on_backend.data());
    return Store(backend_, matrix_shape::of(tensor.weights.shape()), on_backend.data(), std::ssize(positions));
  }

  void put(std::vector<R> const& from, R* to) const { backend_.upload(std::span{from}, to); }

  Backend const& backend_;
  int moments_;
  bool lends_gradients_;
};

}  // namespace sara::detail
