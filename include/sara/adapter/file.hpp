// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <sara/adapter/adapter.hpp>
#include <sara/error.hpp>
#include <sara/io/json.hpp>
#include <sara/io/safetensors.hpp>
#include <sara/version.hpp>

namespace sara {

namespace detail {

[[nodiscard]] inline dtype dtype_of_name(std::string const& where, std::string const& name) {
  for (auto const type : {dtype::float64, dtype::float32, dtype::bfloat16, dtype::float16})
    if (name == name_of(type)) return type;
  throw file_error(text(where, ": expected a dtype, got '", name, "'"));
}

/// A hash as 16 hexadecimal digits: JSON numbers do not hold 64 bits everywhere.
[[nodiscard]] inline std::string hex_of(std::uint64_t hash) {
  std::string out(16, '0');
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, hash >>= 4) *digit = "0123456789abcdef"[hash & 15u];
  return out;
}
[[nodiscard]] inline std::uint64_t hash_of_hex(std::string const& where, std::string const& hex) {
  std::uint64_t hash = 0;
  auto const [end, failed] = std::from_chars(hex.data(), hex.data() + hex.size(), hash, 16);
  require<file_error>(failed == std::errc{} && end == hex.data() + hex.size() && hex.size() == 16, where,
                      ": expected a hash of 16 hexadecimal digits, got '", hex, "'");
  return hash;
}

/// Positions of one tensor: I32 where they fit, else I64.
inline void add_positions(safetensors_writer& file, std::string const& name, std::int64_t size,
                          std::vector<std::int64_t> const& positions) {
  if (size <= std::numeric_limits<std::int32_t>::max())
    file.add(name, std::vector<std::int32_t>(positions.begin(), positions.end()));
  else
    file.add(name, positions);
}

/// @throws file_error  unless positions are strictly ascending and within `size`
[[nodiscard]] inline std::vector<std::int64_t> read_positions(safetensors const& file, std::string const& name,
                                                              std::int64_t size) {
  std::vector<std::int64_t> positions;
  if (file.at(name).type == stored_name<std::int32_t>) {
    auto const narrow = file.read<std::int32_t>(name);
    positions.assign(narrow.begin(), narrow.end());
  } else {
    positions = file.read<std::int64_t>(name);
  }
  require_positions<file_error>(file.path() + ": '" + name + "'", positions, size);
  return positions;
}

[[nodiscard]] inline nlohmann::json json_of(extents const& shape) {
  auto out = nlohmann::json::array();
  for (int d = 0; d < shape.rank(); ++d) out.push_back(shape[d]);
  return out;
}

[[nodiscard]] inline extents read_extents(std::string const& where, nlohmann::json const& shape) {
  require<file_error>(shape.is_array(), where, ": expected a list of extents, got ", told(shape));
  extents out;
  std::int64_t size = 1;
  for (auto const& item : shape) {
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    auto const n = read_count(where, "extents", item, most);
    require<file_error>(out.rank() < max_rank && (n == 0 || size <= most / n), where, ": expected at most ", max_rank,
                        " extents and a size of 63 bits, got ", shape.size(), " extents and a size of ", size,
                        " times ", n);
    size *= n;
    out.push_back(n);
  }
  return out;
}

}  // namespace detail

/// Writes an adapter as one safetensors file, atomically.
///
/// Layout: for each tensor `<name>.positions` (I32, or I64 in tensors of 2^31 elements and more; row-major, strictly
/// ascending) and `<name>.delta` (F32, or F64 for float64 tensors). Metadata: `format` = "sara.adapter",
/// `format_version` = "1", `sara_version`, and `tensors`: a JSON object that gives for each name `shape`, `dtype` and
/// `base` (the base tensor's hash, 16 hexadecimal digits).
/// @return bytes written
/// @throws value_error  for values that are not finite, and tensors that contradict themselves: what load_adapter
/// refuses
/// @throws file_error   if writing fails, or a name is not UTF-8; the path is then untouched
/// Example: tests/adapter/file.cpp
inline std::int64_t save(adapter const& a, std::filesystem::path const& path) {
  safetensors_writer file;
  auto about = nlohmann::json::object();
  for (auto const& [name, tensor] : a.tensors) {
    about[name] = {{"shape", detail::json_of(tensor.shape)},
                   {"dtype", name_of(tensor.type)},
                   {"base", detail::hex_of(tensor.base_hash)}};
    detail::require_valid<value_error>("save '" + name + "'", tensor);
    detail::add_positions(file, name + ".positions", tensor.shape.product(), tensor.positions);
    std::visit([&, key = name + ".delta"](auto const& delta) { file.add(key, delta); }, tensor.delta);
  }
  file.set_metadata("format", "sara.adapter");
  file.set_metadata("format_version", "1");
  file.set_metadata("sara_version", version);
  file.set_metadata("tensors", detail::dump_json(path.string(), about));
  return file.write(path);
}

/// Reads an adapter that save wrote; every claim of the file is checked.
/// @throws file_error  if it cannot be read, is truncated, is no adapter, or contradicts itself
[[nodiscard]] inline adapter load_adapter(std::filesystem::path const& path) {
  auto const file = safetensors::load(path);
  detail::require<file_error>(file.metadata("format") == "sara.adapter", file.path(),
                              ": expected format 'sara.adapter', got '", file.metadata("format"), "'");
  detail::require<file_error>(file.metadata("format_version") == "1", file.path(), ": expected format version 1, got ",
                              file.metadata("format_version"));
  adapter out;
  try {
    auto const about = detail::parse_json(file.path(), file.metadata("tensors"));
    detail::require<file_error>(about.is_object() && file.tensors().size() == 2 * about.size(), file.path(),
                                ": expected positions and delta for ", about.size(), " tensors, got ",
                                file.tensors().size(), " entries");
    for (auto const& [name, facts] : about.items()) {
      auto const where = file.path() + ": '" + name + "'";
      adapter_tensor tensor;
      tensor.shape = detail::read_extents(where, facts.at("shape"));
      tensor.type = detail::dtype_of_name(where, facts.at("dtype").get<std::string>());
      tensor.base_hash = detail::hash_of_hex(where, facts.at("base").get<std::string>());
      tensor.positions = detail::read_positions(file, name + ".positions", tensor.shape.product());
      auto const count = static_cast<std::int64_t>(tensor.positions.size());
      if (tensor.type == dtype::float64)
        tensor.delta = file.read<double>(name + ".delta", count);
      else
        tensor.delta = file.read<float>(name + ".delta", count);
      detail::require_delta<file_error>(where, tensor);
      out.tensors.emplace(name, std::move(tensor));
    }
  } catch (nlohmann::json::exception const& e) {
    throw file_error(detail::text(file.path(), ": expected a description of the adapter's tensors, got ", e.what()));
  }
  return out;
}

}  // namespace sara
