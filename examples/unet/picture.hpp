// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stb/stb_image_write.h>
#include <stb/stb_truetype.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataset.hpp"

namespace unet {

/// A TrueType font that draws small grey text.
class font {
 public:
  /// @param file  a TrueType font
  /// @throws  std::runtime_error if the file cannot be read as a font
  explicit font(std::filesystem::path const& file) {
    std::ifstream stream{file, std::ios::binary};
    data_.assign(std::istreambuf_iterator<char>{stream}, {});
    if (data_.empty() || stbtt_InitFont(&info_, bytes(), stbtt_GetFontOffsetForIndex(bytes(), 0)) == 0)
      throw std::runtime_error{file.string() + ": expected a TrueType font, got no readable one"};
    stbtt_GetFontVMetrics(&info_, &ascent_, nullptr, nullptr);
  }

  font(font const&) = delete;  // info_ points into data_
  font& operator=(font const&) = delete;

  /// The first sans-serif font among the places where systems keep them.
  [[nodiscard]] static std::optional<std::filesystem::path> find() {
    for (char const* file :
         {"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
          "/usr/share/fonts/TTF/DejaVuSans.ttf", "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
          "/System/Library/Fonts/Supplemental/Arial.ttf"})
      if (std::filesystem::exists(file)) return file;
    return std::nullopt;
  }

  /// Width of a line of text in pixels.
  [[nodiscard]] float width(std::string_view text, float size) const {
    float x = 0;
    for_each_glyph(text, size, [&](int, float, float end) { x = end; });
    return x;
  }

  /// Draws a line of text, `top` being the upper edge of the line; what falls outside of the bitmap is cut off.
  /// @param size   height of the line, pixels
  /// @param shade  0 black, 255 white
  void draw(bitmap& target, float left, float top, std::string_view text, float size, int shade) const {
    float const scale = stbtt_ScaleForPixelHeight(&info_, size);
    int const baseline = static_cast<int>(std::lround(top + scale * static_cast<float>(ascent_)));
    std::vector<std::uint8_t> ink;
    for_each_glyph(text, size, [&](int glyph, float begin, float) {
      float const x = left + begin;
      float const whole = std::floor(x);
      int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
      stbtt_GetGlyphBitmapBoxSubpixel(&info_, glyph, scale, scale, x - whole, 0, &x0, &y0, &x1, &y1);
      int const columns = x1 - x0, rows = y1 - y0;
      if (columns <= 0 || rows <= 0) return;
      ink.assign(static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows), 0);
      stbtt_MakeGlyphBitmapSubpixel(&info_, ink.data(), columns, rows, columns, scale, scale, x - whole, 0, glyph);
      for (int j = 0; j < rows; ++j)
        for (int i = 0; i < columns; ++i) {
          int const px = static_cast<int>(whole) + x0 + i, py = baseline + y0 + j;
          if (px < 0 || px >= target.width || py < 0 || py >= target.height) continue;
          int const cover = ink[static_cast<std::size_t>(j * columns + i)];
          for (int c = 0; c < 3; ++c) {
            std::uint8_t& value = target.at(px, py)[c];
            value = static_cast<std::uint8_t>((value * (255 - cover) + shade * cover + 127) / 255);
          }
        }
    });
  }

 private:
  unsigned char const* bytes() const { return reinterpret_cast<unsigned char const*>(data_.data()); }

  /// Calls f(glyph, begin, end) with the pen positions of each character of UTF-8 text.
  template <class F>
  void for_each_glyph(std::string_view text, float size, F&& f) const {
    float const scale = stbtt_ScaleForPixelHeight(&info_, size);
    float x = 0;
    for (std::size_t i = 0; i < text.size();) {
      auto const lead = static_cast<unsigned char>(text[i++]);
      int code = lead < 0x80 ? lead : lead < 0xE0 ? lead & 0x1F : lead < 0xF0 ? lead & 0x0F : lead & 0x07;
      for (; i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80; ++i)
        code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
      int const glyph = stbtt_FindGlyphIndex(&info_, code);
      int advance = 0, bearing = 0;
      stbtt_GetGlyphHMetrics(&info_, glyph, &advance, &bearing);
      float const end = x + scale * static_cast<float>(advance);
      f(glyph, x, end);
      x = end;
    }
  }

  std::vector<char> data_;
  stbtt_fontinfo info_{};
  int ascent_ = 0;
};

/// Breaks text at spaces into at most `count` lines no wider than `width`; what remains ends in an ellipsis.
[[nodiscard]] inline std::vector<std::string> wrap(font const& face, std::string_view text, float size, float width,
                                                   std::size_t count) {
  std::vector<std::string> lines;
  while (!text.empty() && lines.size() < count) {
    std::size_t fits = std::string_view::npos;  // end of the longest run of words that fits
    for (std::size_t end = 0; end != std::string_view::npos;) {
      end = text.find(' ', end == 0 ? 0 : end + 1);
      if (face.width(text.substr(0, end), size) > width) break;
      fits = end == std::string_view::npos ? text.size() : end;
    }
    bool const last = lines.size() + 1 == count;
    if (fits != std::string_view::npos && (!last || fits == text.size())) {
      lines.emplace_back(text.substr(0, fits));
      text.remove_prefix(std::min(fits + 1, text.size()));
      continue;
    }
    std::string cut{text};
    while (cut.size() > 1 && face.width(cut + "…", size) > width) cut.pop_back();
    lines.push_back(cut + "…");
    break;
  }
  return lines;
}

/// Draws a [3, 32, 32] image in [-1, 1], each pixel as a square of `zoom` pixels; values outside are clamped.
inline void draw_image(bitmap& target, int left, int top, std::span<float const, image_size> image, int zoom) {
  for (int y = 0; y < image_side * zoom; ++y)
    for (int x = 0; x < image_side * zoom; ++x)
      for (int c = 0; c < image_channels; ++c) {
        float const value = image[static_cast<std::size_t>((c * image_side + y / zoom) * image_side + x / zoom)];
        target.at(left + x, top + y)[c] =
            static_cast<std::uint8_t>(std::lround(127.5F * (std::clamp(value, -1.0F, 1.0F) + 1.0F)));
      }
}

/// One grid of images with a heading.
struct panel {
  std::string title;
  std::string subtitle;
  std::span<float const> images;  ///< [n, 3, 32, 32], in [-1, 1]
};

/// Draws panels side by side: the same place in each panel shows the same caption.
/// Without a font on the system the words are left out.
/// @param panels    with as many images each
/// @param captions  [n], written under each image; or none
/// @param columns   images a row in each panel
/// @throws  std::invalid_argument if the panels differ in their number of images, or the captions do
[[nodiscard]] inline bitmap draw_panels(std::span<panel const> panels, std::span<std::string const> captions,
                                        int columns) {
  constexpr int zoom = 3, cell = image_side * zoom, gap = 14, margin = 24, heading = 52;
  constexpr float title_size = 20, text_size = 13;
  if (panels.empty() || columns < 1) throw std::invalid_argument{"a picture needs at least one panel and one column"};
  std::size_t const count = panels[0].images.size() / image_size;
  for (auto const& each : panels)
    if (each.images.size() != count * image_size)
      throw std::invalid_argument{"panels must have as many images each, got " + std::to_string(count) + " and " +
                                  std::to_string(each.images.size() / image_size)};
  if (!captions.empty() && captions.size() != count)
    throw std::invalid_argument{"expected a caption for each of " + std::to_string(count) + " images, got " +
                                std::to_string(captions.size())};

  auto const file = font::find();
  std::optional<font> face;
  if (file) face.emplace(*file);
  int const rows = (static_cast<int>(count) + columns - 1) / columns;
  int const row_height = cell + gap + (captions.empty() ? 0 : 2 * static_cast<int>(text_size));
  int const panel_width = columns * (cell + gap) - gap;
  int const panel_count = static_cast<int>(panels.size());
  bitmap result = blank_bitmap(panel_count * (panel_width + 2 * margin), heading + rows * row_height + margin - gap);
  for (int p = 0; p < panel_count; ++p) {
    panel const& shown = panels[static_cast<std::size_t>(p)];
    int const left = p * (panel_width + 2 * margin) + margin;
    if (p > 0)
      for (int y = margin / 2; y < result.height - margin / 2; ++y) std::memset(result.at(left - margin, y), 200, 3);
    if (face) {
      face->draw(result, static_cast<float>(left), 6, shown.title, title_size, 0);
      face->draw(result, static_cast<float>(left), 6 + title_size + 2, shown.subtitle, text_size, 110);
    }
    for (int i = 0; i < static_cast<int>(count); ++i) {
      int const x = left + i % columns * (cell + gap), y = heading + i / columns * row_height;
      draw_image(result, x, y,
                 std::span<float const, image_size>{shown.images.data() + static_cast<std::size_t>(i) * image_size,
                                                    image_size},
                 zoom);
      if (!face || captions.empty()) continue;
      auto line_top = static_cast<float>(y + cell + 1);
      for (auto const& line : wrap(*face, captions[static_cast<std::size_t>(i)], text_size, cell + gap - 4.0F, 2)) {
        float const indent = (static_cast<float>(cell) - face->width(line, text_size)) / 2;
        face->draw(result, static_cast<float>(x) + indent, line_top, line, text_size, 60);
        line_top += text_size;
      }
    }
  }
  return result;
}

/// Writes a bitmap as a PNG file.
/// @throws  std::runtime_error if the file cannot be written
inline void write_png(std::filesystem::path const& file, bitmap const& picture) {
  if (stbi_write_png(file.string().c_str(), picture.width, picture.height, 3, picture.rgb.data(), 0) == 0)
    throw std::runtime_error{file.string() + ": expected a file that can be written, got an error"};
}

}  // namespace unet
