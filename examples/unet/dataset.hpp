// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stb/stb_image.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "stb_resize.hpp"
#include "tokens.hpp"

namespace unet {

inline constexpr int image_side = 32;
inline constexpr int image_channels = 3;
/// Values of one image, [3, 32, 32].
inline constexpr std::size_t image_size = std::size_t{image_channels} * image_side * image_side;
/// Classes of the base model; the class after the last stands for "no class".
inline constexpr int class_count = 31;
inline constexpr int null_class = class_count;

/// 8-bit pixels, [height, width, 3], red first.
struct bitmap {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;

  [[nodiscard]] std::uint8_t* at(int x, int y) { return rgb.data() + offset(x, y); }
  [[nodiscard]] std::uint8_t const* at(int x, int y) const { return rgb.data() + offset(x, y); }

 private:
  [[nodiscard]] std::size_t offset(int x, int y) const {
    return 3 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x));
  }
};

/// A white bitmap.
[[nodiscard]] inline bitmap blank_bitmap(int width, int height) {
  return {width, height,
          std::vector<std::uint8_t>(3 * static_cast<std::size_t>(width) * static_cast<std::size_t>(height), 255)};
}

/// Reads a picture of any format stb_image knows, transparency composited on white.
/// @throws  std::runtime_error if the file cannot be read as a picture
[[nodiscard]] inline bitmap read_bitmap(std::filesystem::path const& file) {
  int width = 0, height = 0, channels = 0;
  std::unique_ptr<stbi_uc, void (*)(void*)> const rgba{stbi_load(file.string().c_str(), &width, &height, &channels, 4),
                                                       stbi_image_free};
  if (!rgba) throw std::runtime_error{file.string() + ": expected a picture, got '" + stbi_failure_reason() + "'"};
  bitmap result = blank_bitmap(width, height);
  for (std::size_t pixel = 0; pixel < result.rgb.size() / 3; ++pixel) {
    int const alpha = rgba.get()[4 * pixel + 3];
    for (std::size_t c = 0; c < 3; ++c)
      result.rgb[3 * pixel + c] =
          static_cast<std::uint8_t>((rgba.get()[4 * pixel + c] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
  return result;
}

/// Fits a picture into 32×32: its proportions stay, the rest is white.
[[nodiscard]] inline bitmap fit_bitmap(bitmap const& source) {
  if (source.width == image_side && source.height == image_side) return source;
  int const longer = std::max(source.width, source.height);
  int const width = std::max(1, (source.width * image_side + longer / 2) / longer);
  int const height = std::max(1, (source.height * image_side + longer / 2) / longer);
  bitmap result = blank_bitmap(image_side, image_side);
  resize_rgb(source.rgb.data(), source.width, source.height,
             result.at((image_side - width) / 2, (image_side - height) / 2), width, height, 3 * image_side);
  return result;
}

/// Copies the 32×32 cell whose upper left pixel is (x, y) to [3, 32, 32] values in [-1, 1].
inline void copy_cell(bitmap const& sheet, int x, int y, std::span<float, image_size> image) {
  for (int row = 0; row < image_side; ++row)
    for (int column = 0; column < image_side; ++column)
      for (int c = 0; c < image_channels; ++c)
        image[static_cast<std::size_t>((c * image_side + row) * image_side + column)] =
            static_cast<float>(sheet.at(x + column, y + row)[c]) / 127.5F - 1.0F;
}

/// Captioned 32×32 pictures in one or more styles, split into training and held-out pictures.
struct dataset {
  std::vector<std::string> labels;  ///< names of the classes
  std::vector<std::string> styles;  ///< names of the styles

  std::vector<float> images;             ///< [n, 3, 32, 32], in [-1, 1]
  std::vector<int> label;                ///< [n], in [0, class_count], the last being `null_class`
  std::vector<int> style;                ///< [n], into `styles`
  std::vector<std::string> name;         ///< [n], what a person would call the picture
  std::vector<std::string> text;         ///< [n], what the tokens are made of
  std::vector<std::vector<int>> tokens;  ///< [n], empty bags until `tokenize`

  std::vector<std::size_t> train;     ///< pictures to learn from, ascending
  std::vector<std::size_t> held_out;  ///< pictures never learned from, ascending

  [[nodiscard]] std::size_t size() const noexcept { return label.size(); }

  [[nodiscard]] std::span<float const, image_size> image(std::size_t i) const {
    return std::span<float const, image_size>{images.data() + i * image_size, image_size};
  }

  /// Appends a picture; `text` is what its tokens will be made of.
  void add(bitmap const& sheet, int x, int y, int label_of, int style_of, std::string name_of, std::string text_of,
           bool is_held_out) {
    std::size_t const i = size();
    images.resize((i + 1) * image_size);
    copy_cell(sheet, x, y, std::span<float, image_size>{images.data() + i * image_size, image_size});
    label.push_back(label_of);
    style.push_back(style_of);
    name.push_back(std::move(name_of));
    text.push_back(std::move(text_of));
    tokens.emplace_back();
    (is_held_out ? held_out : train).push_back(i);
  }

  /// The texts of the training pictures: what a vocabulary is made from.
  [[nodiscard]] std::vector<std::string> training_texts() const {
    std::vector<std::string> texts;
    texts.reserve(train.size());
    for (std::size_t const i : train) texts.push_back(text[i]);
    return texts;
  }

  /// Sets `tokens` from `text`.
  void tokenize(vocabulary const& words) {
    for (std::size_t i = 0; i < size(); ++i) tokens[i] = words.tokens(text[i]);
  }
};

/// One row of `emoji.json`.
struct emoji {
  std::string code;  ///< Unicode code points, "1F600"
  std::string name;
  std::string category;
  std::string subgroup;
  int label = null_class;
  bool held_out = false;
  std::vector<std::string> styles;  ///< the styles whose sheet has it

  [[nodiscard]] bool drawn_in(std::string const& style) const {
    return std::find(styles.begin(), styles.end(), style) != styles.end();
  }
};

/// What the cells of the sheets show, in their order.
struct emoji_index {
  int cell = 0;     ///< pixels a side
  int columns = 0;  ///< cells a row
  std::vector<std::string> labels;
  std::vector<emoji> rows;
};

/// Reads `emoji.json`.
/// @throws  std::runtime_error if the file is missing, is not the JSON expected, or has other than 32×32 cells
[[nodiscard]] inline emoji_index read_emoji_index(std::filesystem::path const& file) {
  std::ifstream stream{file};
  if (!stream) throw std::runtime_error{file.string() + ": expected the list of emoji, got no readable file"};
  emoji_index index;
  try {
    auto const json = nlohmann::json::parse(stream);
    json.at("cell").get_to(index.cell);
    json.at("columns").get_to(index.columns);
    json.at("labels").get_to(index.labels);
    for (auto const& row : json.at("emoji"))
      index.rows.push_back({row.at("code"), row.at("name"), row.at("category"), row.at("subgroup"), row.at("label"),
                            row.at("held_out"), row.at("styles")});
  } catch (nlohmann::json::exception const& error) {
    throw std::runtime_error{file.string() + ": expected the list of emoji, got JSON that fails with: " + error.what()};
  }
  if (index.cell != image_side || index.columns < 1)
    throw std::runtime_error{file.string() + ": expected cells of 32 pixels in at least one column, got cells of " +
                             std::to_string(index.cell) + " in " + std::to_string(index.columns)};
  int const classes = static_cast<int>(index.labels.size());
  if (classes > class_count)
    throw std::runtime_error{file.string() + ": expected at most 31 labels, got " + std::to_string(classes)};
  for (auto const& row : index.rows)
    if (row.label < 0 || row.label >= classes)
      throw std::runtime_error{file.string() + ": expected labels in [0, " + std::to_string(classes) + "), got " +
                               std::to_string(row.label) + " for '" + row.name + "'"};
  return index;
}

/// Loads `<style>.png` for each style, cut into cells as `emoji.json` of the same folder says.
/// Pictures come style after style, in the order of emoji.json; emoji a style does not have are left out.
/// @param folder  holds emoji.json and the sheets
/// @param styles  names of sheets, "noto"
/// @throws  std::runtime_error if a file is missing, unreadable or of the wrong size, or there is no picture
/// @par Memory  12 KiB a picture
[[nodiscard]] inline dataset load_sheets(std::filesystem::path const& folder, std::vector<std::string> styles) {
  emoji_index const index = read_emoji_index(folder / "emoji.json");
  int const columns = index.columns;
  int const rows = (static_cast<int>(index.rows.size()) + columns - 1) / columns;
  dataset data;
  data.labels = index.labels;
  data.styles = std::move(styles);
  data.images.reserve(data.styles.size() * index.rows.size() * image_size);
  for (std::size_t s = 0; s < data.styles.size(); ++s) {
    auto const file = folder / (data.styles[s] + ".png");
    if (!std::filesystem::exists(file))
      throw std::runtime_error{file.string() + ": expected the sheet of style " + data.styles[s] +
                               ", got no such file; examples/unet/fetch --list names those that it can draw"};
    bitmap const sheet = read_bitmap(file);
    if (sheet.width != columns * image_side || sheet.height != rows * image_side)
      throw std::runtime_error{file.string() + ": expected a sheet of " + std::to_string(columns * image_side) + "x" +
                               std::to_string(rows * image_side) + " pixels, got " + std::to_string(sheet.width) + "x" +
                               std::to_string(sheet.height)};
    for (int i = 0; i < static_cast<int>(index.rows.size()); ++i) {
      emoji const& row = index.rows[static_cast<std::size_t>(i)];
      if (!row.drawn_in(data.styles[s])) continue;
      data.add(sheet, i % columns * image_side, i / columns * image_side, row.label, static_cast<int>(s), row.name,
               row.name + ' ' + row.subgroup + ' ' + row.category, row.held_out);
    }
  }
  if (data.size() == 0) throw std::runtime_error{folder.string() + ": expected sheets with pictures, got none"};
  return data;
}

/// Loads a folder of pictures with captions: `metadata.jsonl` has one object a line,
/// {"file_name": "a.png", "text": "a red heart"}, the layout Hugging Face calls an image folder.
///
/// Pictures of any size are fitted into 32×32. Optional keys: "label", a class by number or by name
/// (otherwise the null class), and "held_out", true or false (otherwise every 20th picture is held out).
/// @param labels  names of the classes, for labels given by name
/// @throws  std::runtime_error if a file is missing or unreadable, a line is wrong, or there is no picture
[[nodiscard]] inline dataset load_folder(std::filesystem::path const& folder, std::vector<std::string> labels = {}) {
  auto const file = folder / "metadata.jsonl";
  std::ifstream stream{file};
  if (!stream) throw std::runtime_error{file.string() + ": expected one JSON object a line, got no readable file"};
  dataset data;
  data.labels = std::move(labels);
  data.styles = {folder.filename().string()};
  auto const label_of = [&](nlohmann::json const& value) {
    int label = null_class;
    if (value.is_string()) {
      auto const found = std::find(data.labels.begin(), data.labels.end(), value.get<std::string>());
      if (found == data.labels.end())
        throw std::runtime_error{R"(expected the name of a class as "label", got ")" + value.get<std::string>() + "\""};
      label = static_cast<int>(found - data.labels.begin());
    } else {
      label = value.get<int>();
    }
    if (label < 0 || label > null_class)
      throw std::runtime_error{"expected \"label\" in [0, 31], got " + std::to_string(label)};
    return label;
  };
  std::string line;
  for (int number = 1; std::getline(stream, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      auto const json = nlohmann::json::parse(line);
      auto const text = json.value("text", std::string{});
      int const label = json.contains("label") ? label_of(json.at("label")) : null_class;
      bool const held_out = json.value("held_out", data.size() % 20 == 19);
      bitmap const picture = fit_bitmap(read_bitmap(folder / json.at("file_name").get<std::string>()));
      data.add(picture, 0, 0, label, 0, text, text, held_out);
    } catch (std::exception const& error) {
      throw std::runtime_error{file.string() + " line " + std::to_string(number) + ": " + error.what()};
    }
  }
  if (data.size() == 0) throw std::runtime_error{file.string() + ": expected at least one picture, got none"};
  return data;
}

}  // namespace unet
