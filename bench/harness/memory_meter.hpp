// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bench {

/// Counts what this program's own code allocates with `new` (containers of the library included; not what shared
/// libraries allocate on their own, so the bytes of peers are the least that they need).
class memory_meter {
 public:
  memory_meter();
  /// The most bytes that were alive at once since construction, above those alive then.
  [[nodiscard]] std::int64_t peak() const;

 private:
  std::int64_t before_;
};

}  // namespace bench
