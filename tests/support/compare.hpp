// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <exception>
#include <span>
#include <sstream>
#include <string>
#include <vector>

namespace sara::test {

/// How far two columns may lie apart: |a - b| <= absolute + relative · |b|.
struct tolerance {
  double absolute = 0;
  double relative = 0;
};

/// Empty if all of `got` are within tolerance of `expected`, else a sentence about the first that is not.
template <class A, class B>
[[nodiscard]] std::string difference(std::vector<A> const& got, std::vector<B> const& expected, tolerance allowed) {
  std::ostringstream out;
  if (got.size() != expected.size()) {
    out << "expected " << expected.size() << " numbers, got " << got.size();
    return out.str();
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    auto const a = static_cast<double>(got[i]);
    auto const b = static_cast<double>(expected[i]);
    if (std::abs(a - b) <= allowed.absolute + allowed.relative * std::abs(b)) continue;  // false for NaN
    out << "at " << i << ": expected " << b << ", got " << a;
    return out.str();
  }
  return {};
}

/// Whether f throws E with a text that holds every part.
template <class E, class F>
[[nodiscard]] std::string complaint(F&& f, std::vector<std::string> const& parts = {}) {
  try {
    f();
  } catch (std::exception const& e) {
    std::string const what = e.what();
    if (dynamic_cast<E const*>(&e) == nullptr) return "expected another exception, got: " + what;
    for (auto const& part : parts)
      if (what.find(part) == std::string::npos) return "expected '" + part + "' in the message, got: " + what;
    return {};
  }
  return "expected an exception, got none";
}

}  // namespace sara::test
