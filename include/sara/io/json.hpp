// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <sara/error.hpp>

namespace sara::detail {

/// A file's description of itself. What lies deeper than four levels has no meaning in any and is left out, so that
/// nothing ever descends as deep as a file says.
/// @throws file_error  for a name that the outermost object has twice
/// @throws nlohmann::json::exception  for a text that is no JSON
[[nodiscard]] inline nlohmann::json parse_json(std::string const& where, std::string_view text) {
  using json = nlohmann::json;
  std::set<std::string> seen;
  std::optional<std::string> twice;
  auto out = json::parse(text.begin(), text.end(), [&](int depth, json::parse_event_t event, json& value) {
    if (depth == 1 && event == json::parse_event_t::key && !seen.insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return depth <= 4;
  });
  require<file_error>(!twice, where, ": expected each name once, got '", twice.value_or(""), "' twice");
  return out;
}

/// @throws file_error  for names and texts that are not UTF-8
[[nodiscard]] inline std::string dump_json(std::string const& where, nlohmann::json const& value) {
  try {
    return value.dump();
  } catch (nlohmann::json::exception const& e) {
    throw file_error(text(where, ": expected names and metadata in UTF-8, got ", e.what()));
  }
}

/// What a message says that it got: a number or word itself, of a list or object only what it is.
[[nodiscard]] inline std::string told(nlohmann::json const& value) {
  return value.is_primitive() ? value.dump() : value.type_name();
}

/// A whole number from 0 to `most`.
/// @throws file_error  for anything else
[[nodiscard]] inline std::int64_t read_count(std::string const& where, char const* what, nlohmann::json const& value,
                                             std::int64_t most) {
  require<file_error>(value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most),
                      where, ": expected ", what, " from 0 to ", most, ", got ", told(value));
  return value.get<std::int64_t>();
}

}  // namespace sara::detail
