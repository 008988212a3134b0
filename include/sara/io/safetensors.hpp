// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <sara/error.hpp>
#include <sara/io/json.hpp>
#include <sara/tensor/dtype.hpp>
#include <sara/tensor/view.hpp>

namespace sara {

static_assert(std::endian::native == std::endian::little,
              "sara: safetensors files are little-endian, and so must be the machine");

/// Element types of a safetensors file, by their names in the header.
template <class T>
inline constexpr std::string_view stored_name{};
template <>
inline constexpr std::string_view stored_name<double> = "F64";
template <>
inline constexpr std::string_view stored_name<float> = "F32";
template <>
inline constexpr std::string_view stored_name<bfloat16> = "BF16";
template <>
inline constexpr std::string_view stored_name<float16> = "F16";
template <>
inline constexpr std::string_view stored_name<std::int64_t> = "I64";
template <>
inline constexpr std::string_view stored_name<std::int32_t> = "I32";
template <>
inline constexpr std::string_view stored_name<std::uint64_t> = "U64";
template <>
inline constexpr std::string_view stored_name<std::uint32_t> = "U32";
template <>
inline constexpr std::string_view stored_name<std::uint16_t> = "U16";
template <>
inline constexpr std::string_view stored_name<std::uint8_t> = "U8";
template <>
inline constexpr std::string_view stored_name<bool> = "BOOL";

/// One tensor of a file: its type's name, extents, and bytes (inside the file object that gave it).
struct stored_tensor {
  std::string type;
  std::vector<std::int64_t> shape;
  std::span<std::byte const> bytes;

  /// Number of elements.
  [[nodiscard]] std::int64_t size() const {
    std::int64_t n = 1;
    for (auto const extent : shape) n *= extent;
    return n;
  }
};

/// A safetensors file, read whole and checked before anything is used: eight bytes of header length, a JSON header,
/// then the tensors' bytes, without gaps or overlaps.
///
/// A truncated, oversized or inconsistent file is refused with a sentence; nothing is allocated on the header's word.
/// Source: the format's description, github.com/huggingface/safetensors.
class safetensors {
 public:
  safetensors(safetensors&&) = default;  // never copied: the tensors lie in its bytes
  safetensors& operator=(safetensors&&) = default;

  /// @throws file_error  if the file cannot be read or breaks the format
  /// Extra memory: the file's size.
  [[nodiscard]] static safetensors load(std::filesystem::path const& path) {
    std::error_code failed;
    bool const exists = std::filesystem::exists(path, failed);
    detail::require<file_error>(!exists || std::filesystem::is_regular_file(path, failed), path.string(),
                                ": expected a file, got something else of that name");
    std::ifstream in{path, std::ios::binary | std::ios::ate};
    detail::require<file_error>(in.good(), path.string(), ": expected a readable file, got ",
                                exists ? "one that cannot be opened" : "none");
    auto const length = static_cast<std::int64_t>(in.tellg());
    std::vector<std::byte> data(static_cast<std::size_t>(length));
    in.seekg(0);
    in.read(reinterpret_cast<char*>(data.data()), length);
    detail::require<file_error>(in.gcount() == length, path.string(), ": expected ", length, " bytes, got ",
                                in.gcount());
    return of(std::move(data), path.string());
  }

  /// The same for a file's bytes in memory, as a framework's own archive may hold them.
  /// @param name  what errors call it, and path() says
  /// @throws file_error  if they break the format
  [[nodiscard]] static safetensors of(std::vector<std::byte> data, std::string name) {
    safetensors out;
    out.path_ = std::move(name);
    out.data_ = std::move(data);
    out.parse();
    return out;
  }

  /// All tensors, by name.
  [[nodiscard]] std::map<std::string, stored_tensor> const& tensors() const noexcept { return tensors_; }
  /// The header's `__metadata__`.
  [[nodiscard]] std::map<std::string, std::string> const& metadata() const noexcept { return metadata_; }
  [[nodiscard]] std::string const& path() const noexcept { return path_; }
  [[nodiscard]] bool contains(std::string const& name) const { return tensors_.contains(name); }

  /// @throws file_error  if the file has no such tensor
  [[nodiscard]] stored_tensor const& at(std::string const& name) const {
    auto const found = tensors_.find(name);
    refuse_unless(found != tensors_.end(), "expected a tensor '", name, "', got none of that name");
    return found->second;
  }

  /// @throws file_error  if the metadata has no such key
  [[nodiscard]] std::string const& metadata(std::string const& key) const {
    auto const found = metadata_.find(key);
    refuse_unless(found != metadata_.end(), "expected metadata '", key, "', got none of that name");
    return found->second;
  }

  /// A copy of a tensor's elements.
  /// @throws file_error  if there is none of that name, or its type is not T
  template <class T>
  [[nodiscard]] std::vector<T> read(std::string const& name) const {
    auto const& tensor = at(name);
    refuse_unless(tensor.type == stored_name<T>, "'", name, "': expected ", stored_name<T>, " elements, got ",
                  tensor.type);
    std::vector<T> out(static_cast<std::size_t>(tensor.size()));
    if constexpr (std::same_as<T, bool>)
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = tensor.bytes[i] != std::byte{0};
    else if (!out.empty())
      std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
    return out;
  }

  /// As read, with the number of elements that is expected.
  /// @throws file_error  also for another number
  template <class T>
  [[nodiscard]] std::vector<T> read(std::string const& name, std::int64_t count) const {
    refuse_unless(at(name).size() == count, "'", name, "': expected ", count, " elements, got ", at(name).size());
    return read<T>(name);
  }

 private:
  safetensors() = default;

  template <class... Parts>
  void refuse_unless(bool condition, Parts const&... parts) const {
    detail::require<file_error>(condition, path_, ": ", parts...);
  }

  void parse() {
    constexpr std::uint64_t prefix = 8;
    refuse_unless(data_.size() >= prefix, "expected a safetensors file of at least 8 bytes, got ", data_.size());
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, data_.data(), prefix);
    refuse_unless(header_bytes <= data_.size() - prefix, "expected a header of at most ", data_.size() - prefix,
                  " bytes, got a length of ", header_bytes);
    auto const* text = reinterpret_cast<char const*>(data_.data()) + prefix;

    try {
      auto const header = detail::parse_json(path_, {text, header_bytes});
      refuse_unless(header.is_object(), "expected a JSON object as header, got ", header.type_name());
      for (auto const& [name, value] : header.items()) {
        if (name == "__metadata__")
          metadata_ = value.get<std::map<std::string, std::string>>();
        else
          add(name, value, prefix + header_bytes);
      }
    } catch (nlohmann::json::exception const& e) {
      throw file_error(detail::text(path_, ": expected a safetensors header, got ", e.what()));
    }
    check_cover(prefix + header_bytes);
  }

  void add(std::string const& name, nlohmann::json const& value, std::uint64_t data_begin) {
    static std::map<std::string, std::int64_t> const sizes{{"F64", 8}, {"F32", 4}, {"BF16", 2}, {"F16", 2}, {"I64", 8},
                                                           {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8}, {"U32", 4},
                                                           {"U16", 2}, {"U8", 1},  {"BOOL", 1}};
    stored_tensor tensor;
    tensor.type = value.at("dtype").get<std::string>();
    auto const element = sizes.find(tensor.type);
    refuse_unless(element != sizes.end(), "'", name, "': expected a known element type, got '", tensor.type, "'");
    std::int64_t bytes = element->second;
    auto const& shape = value.at("shape");
    refuse_unless(shape.is_array(), "'", name, "': expected a list of extents, got ", detail::told(shape));
    for (auto const& extent : shape) {
      refuse_unless(extent.is_number_unsigned(), "'", name, "': expected extents of at least 0, got ",
                    detail::told(extent));
      auto const n = extent.get<std::uint64_t>();
      refuse_unless(n <= data_.size() &&
                        (n == 0 || bytes <= std::numeric_limits<std::int64_t>::max() / static_cast<std::int64_t>(n)),
                    "'", name, "': expected extents within the file's ", data_.size(), " bytes, got ", n);
      tensor.shape.push_back(static_cast<std::int64_t>(n));
      bytes *= static_cast<std::int64_t>(n);
    }
    auto const& offsets = value.at("data_offsets");
    refuse_unless(
        offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
        "'", name, "': expected two data offsets, got ", detail::told(offsets));
    auto const begin = offsets[0].get<std::uint64_t>();
    auto const end = offsets[1].get<std::uint64_t>();
    refuse_unless(begin <= end && end <= data_.size() - data_begin, "'", name, "': expected data within ",
                  data_.size() - data_begin, " bytes, got offsets ", begin, " to ", end, " (truncated file?)");
    refuse_unless(end - begin == static_cast<std::uint64_t>(bytes), "'", name, "': expected ", bytes,
                  " bytes for its type and extents, got ", end - begin);
    tensor.bytes = std::span{data_}.subspan(data_begin + begin, end - begin);
    tensors_.emplace(name, std::move(tensor));
  }

  void check_cover(std::uint64_t data_begin) const {
    std::vector<std::span<std::byte const>> parts;
    for (auto const& [name, tensor] : tensors_)
      if (!tensor.bytes.empty()) parts.push_back(tensor.bytes);
    std::sort(parts.begin(), parts.end(), [](auto a, auto b) { return a.data() < b.data(); });
    auto const* expected = data_.data() + data_begin;
    for (auto const part : parts) {
      refuse_unless(part.data() == expected, "expected tensors without gaps or overlaps, got one at byte ",
                    part.data() - data_.data(), " where byte ", expected - data_.data(), " was due");
      expected += part.size();
    }
    refuse_unless(expected == data_.data() + data_.size(), "expected ", expected - data_.data(), " bytes, got ",
                  data_.size());
  }

  std::string path_;
  std::vector<std::byte> data_;
  std::map<std::string, stored_tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Collects tensors and writes them as one safetensors file, atomically: a reader sees the old file or the whole new
/// one. Tensors are laid out in the order of adding, 8-byte aligned types first so that a mapped file is aligned.
class safetensors_writer {
 public:
  /// Copies the elements.
  /// @throws shape_error  for a negative extent, or unless the product of the extents is the number of elements
  /// @throws name_error   if the name was added before, or is "__metadata__", which the format keeps for itself
  template <class T>
  void add(std::string const& name, std::span<T const> values, std::vector<std::int64_t> shape) {
    static_assert(!stored_name<T>.empty(), "sara: safetensors has no name for this element type");
    stored_tensor const probe{std::string(stored_name<T>), std::move(shape), std::as_bytes(values)};
    for (auto const extent : probe.shape)
      detail::require<shape_error>(extent >= 0, "safetensors '", name, "': expected extents of at least 0, got ",
                                   extent);
    detail::require<shape_error>(probe.size() == static_cast<std::int64_t>(values.size()), "safetensors '", name,
                                 "': expected ", probe.size(), " elements for its extents, got ", values.size());
    detail::require<name_error>(name != "__metadata__", "safetensors: expected another name than '", name, "'");
    detail::require<name_error>(names_.insert(name).second, "safetensors: expected each tensor once, got '", name,
                                "' twice");
    items_.push_back({name, probe.type, probe.shape, sizeof(T), {probe.bytes.begin(), probe.bytes.end()}});
  }

  template <class T>
  void add(std::string const& name, std::vector<T> const& values) {
    add<T>(name, std::span<T const>{values}, {static_cast<std::int64_t>(values.size())});
  }

  void set_metadata(std::string const& key, std::string value) { metadata_[key] = std::move(value); }

  /// Writes to a temporary file beside `path`, of a name that no other writer has, then renames it over `path`, or over
  /// what `path` is a link to.
  /// @throws file_error  if that fails, or there is something else than a file; `path` is then untouched
  /// @return bytes written
  std::int64_t write(std::filesystem::path const& path) const {
    auto const file = lay_out(path.string());
    std::error_code failed;
    bool const is_link = std::filesystem::is_symlink(path, failed);
    auto const target = is_link ? std::filesystem::weakly_canonical(path, failed) : path;
    detail::require<file_error>(!(is_link && failed), path.string(), ": expected a link to a file, got one that leads ",
                                "nowhere: ", failed.message());
    detail::require<file_error>(std::filesystem::is_regular_file(target, failed) || !exists(target, failed),
                                path.string(), ": expected a file or nothing of that name, got something else");
    auto temporary = target;
    temporary += detail::text('.', std::random_device{}(), ".part");
    auto const give_up = [&](std::string const& why) {
      std::error_code ignored;
      std::filesystem::remove(temporary, ignored);
      throw file_error(path.string() + ": expected to " + why);
    };
    {
      errno = 0;
      std::ofstream out{temporary, std::ios::binary | std::ios::trunc};
      for_each_piece(file, [&](std::span<std::byte const> piece) {
        out.write(reinterpret_cast<char const*>(piece.data()), static_cast<std::streamsize>(piece.size()));
      });
      out.close();
      if (!out.good())
        give_up(detail::text("write ", file.size(), " bytes, got ",
                             errno != 0 ? std::generic_category().message(errno) : "a write error"));
    }
    std::filesystem::rename(temporary, target, failed);
    if (failed) give_up(detail::text("rename ", temporary.string(), " to it, got ", failed.message()));
    return static_cast<std::int64_t>(file.size());
  }

  /// The file's bytes, for an archive that is not a file of its own.
  /// @throws file_error  for names or metadata that are not UTF-8
  [[nodiscard]] std::vector<std::byte> bytes() const {
    auto const file = lay_out("safetensors");
    std::vector<std::byte> out(file.size());
    auto end = out.begin();
    for_each_piece(file, [&](std::span<std::byte const> piece) { end = std::copy(piece.begin(), piece.end(), end); });
    return out;
  }

 private:
  struct part {
    std::string name;
    std::string type;
    std::vector<std::int64_t> shape;
    std::size_t element;
    std::vector<std::byte> bytes;
  };

  /// A header, and the tensors in the order that it gives them.
  struct layout {
    std::string header;
    std::vector<part const*> order;
    std::size_t data = 0;  // bytes of all tensors
    [[nodiscard]] std::size_t size() const { return sizeof(std::uint64_t) + header.size() + data; }
  };

  [[nodiscard]] layout lay_out(std::string const& where) const {
    layout out;
    for (auto const& item : items_) out.order.push_back(&item);
    std::stable_sort(out.order.begin(), out.order.end(),
                     [](auto const* a, auto const* b) { return a->element > b->element; });
    nlohmann::json header = nlohmann::json::object();
    if (!metadata_.empty()) header["__metadata__"] = metadata_;
    for (auto const* item : out.order) {
      header[item->name] = {
          {"dtype", item->type}, {"shape", item->shape}, {"data_offsets", {out.data, out.data + item->bytes.size()}}};
      out.data += item->bytes.size();
    }
    out.header = detail::dump_json(where, header);
    out.header.append((8 - out.header.size() % 8) % 8, ' ');
    return out;
  }

  /// f(bytes) for all of the file, in its order.
  template <class F>
  static void for_each_piece(layout const& file, F&& f) {
    auto const length = static_cast<std::uint64_t>(file.header.size());
    f(std::as_bytes(std::span{&length, 1}));
    f(std::as_bytes(std::span{file.header}));
    for (auto const* item : file.order) f(std::span<std::byte const>{item->bytes});
  }

  std::vector<part> items_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace sara
