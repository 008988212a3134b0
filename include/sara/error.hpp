// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace sara {

/// Base of every exception of the library. The text says what was wrong, what was expected, and what was given.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Extents, strides or counts do not fit together.
class shape_error : public error {
 public:
  using error::error;
};

/// An element type that cannot be used here.
class dtype_error : public error {
 public:
  using error::error;
};

/// A tensor in another memory than the backend's.
class memory_error : public error {
 public:
  using error::error;
};

/// A setting outside its range, or settings that contradict each other.
class value_error : public error {
 public:
  using error::error;
};

/// A name that no tensor has, or that two different tensors have.
class name_error : public error {
 public:
  using error::error;
};

/// A file that cannot be read or written, or whose contents are not what they claim.
class file_error : public error {
 public:
  using error::error;
};

/// An adapter or a saved state that belongs to other weights.
class base_error : public error {
 public:
  using error::error;
};

namespace detail {

/// Everything that can be printed to a stream, one after the other, as a string.
template <class... Parts>
[[nodiscard]] std::string text(Parts const&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// Throws Error with the text of all parts unless the condition holds; stays on in every build.
template <class Error, class... Parts>
void require(bool condition, Parts const&... parts) {
  if (!condition) [[unlikely]]
    throw Error(text(parts...));
}

}  // namespace detail
}  // namespace sara
