// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <array>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace bench {

namespace {

template <class... Values>
std::string format(char const* pattern, Values... values) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

std::string bytes_text(std::int64_t bytes) {
  auto const value = static_cast<double>(bytes);
  if (value >= 1e9) return format("%.2f GB", value * 1e-9);
  if (value >= 1e6) return format("%.1f MB", value * 1e-6);
  return format("%.0f kB", value * 1e-3);
}

std::string time_text(double ms) { return format(ms >= 100 ? "%.0f" : ms >= 1 ? "%.2f" : "%.4f", ms); }

constexpr std::size_t columns = 13;
constexpr std::array<char const*, columns> heads{"",        "case",    "shape",    "density",
                                                 "dtype",   "threads", "sara ms",  "peer",
                                                 "peer ms", "ratio",   "of limit", "bytes, sara : peer",
                                                 "goal"};
constexpr std::array<int, columns> widths{1, 26, 28, 8, 9, 7, 10, 30, 10, 8, 8, 20, 4};
constexpr std::array<bool, columns> left{true, true,  true,  false, true,  false, false,
                                         true, false, false, false, false, true};

/// What is wanted of a row, and whether it is so.
std::string goal_text(result const& r) {
  auto const met = [](bool yes) { return yes ? " met" : " missed"; };
  std::string out;
  if (r.goal > 0) out = format("ratio >= %.2f", r.goal) + met(r.ratio() >= r.goal);
  if (r.goal_bytes > 0)
    out += (out.empty() ? "" : ", ") + ("<= " + bytes_text(r.goal_bytes)) + met(r.sara_bytes <= r.goal_bytes);
  return out;
}

std::array<std::string, columns> cells(result const& r) {
  return {r.starred ? "*" : "",
          r.name,
          r.shape,
          format("%.3g %%", 100 * r.density),
          r.dtype,
          std::to_string(r.threads),
          time_text(r.sara_ms),
          r.peer,
          time_text(r.peer_ms),
          format("%.2f", r.ratio()),
          r.limit_ms > 0 ? format("%.0f %%", 100 * r.limit_ms / r.sara_ms) : "",
          bytes_text(r.sara_bytes) + " : " + bytes_text(r.peer_bytes),
          goal_text(r)};
}

std::ofstream open(std::filesystem::path const& file) {
  std::ofstream out{file};
  if (!out) throw std::runtime_error{file.string() + ": cannot be written"};
  return out;
}

}  // namespace

void table::add(result const& row) {
  auto const line = [this](auto const& texts) {
    std::string out;
    for (std::size_t i = 0; i < columns; ++i) {
      std::string text = texts[i];
      auto const width = static_cast<std::size_t>(widths[i]);
      if (text.size() < width) text.insert(left[i] ? text.end() : text.begin(), width - text.size(), ' ');
      out += text + (i + 1 < columns ? "  " : "");
    }
    to_ << out << std::endl;  // at once: a run takes minutes
  };
  if (!begun_) line(heads);
  begun_ = true;
  line(cells(row));
}

void write_json(std::filesystem::path const& file, std::span<result const> rows) {
  auto list = nlohmann::ordered_json::array();
  for (auto const& r : rows) {
    list.push_back({{"case", r.name},
                    {"shape", r.shape},
                    {"density", r.density},
                    {"dtype", r.dtype},
                    {"threads", r.threads},
                    {"sara_ms", r.sara_ms},
                    {"peer", r.peer},
                    {"peer_ms", r.peer_ms},
                    {"ratio", r.ratio()},
                    {"limit_ms", r.limit_ms},
                    {"sara_bytes", r.sara_bytes},
                    {"peer_bytes", r.peer_bytes},
                    {"flops", r.flops},
                    {"bytes", r.bytes}});
    if (!r.device.empty()) list.back()["device"] = r.device;
    if (r.goal > 0) list.back()["goal"] = r.goal;
    if (r.goal_bytes > 0) list.back()["goal_bytes"] = r.goal_bytes;
    if (r.peer_idle_bytes == 0) continue;
    list.back()["sara_idle_bytes"] = r.sara_idle_bytes;
    list.back()["peer_idle_bytes"] = r.peer_idle_bytes;
  }
  open(file) << list.dump(1) << '\n';
}

void write_markdown(std::filesystem::path const& file, std::span<result const> rows) {
  auto out = open(file);
  auto const line = [&out](auto const& texts) {
    for (auto const& text : texts) out << "| " << text << ' ';
    out << "|\n";
  };
  line(heads);
  for (bool const to_the_left : left) out << (to_the_left ? "|---" : "|---:");
  out << "|\n";
  for (auto const& r : rows) line(cells(r));
}

}  // namespace bench
