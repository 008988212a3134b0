// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "../../harness/case.hpp"
#include "../../harness/process.hpp"

namespace bench {

/// Whether the interpreter has PyTorch and that sees a CUDA device. Asked once.
[[nodiscard]] inline bool has_pytorch_on_cuda() {
  static bool const found = [] {
    auto const command =
        "'" + python() + "' -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' > /dev/null 2>&1";
    return std::system(command.c_str()) == 0;
  }();
  return found;
}

/// A process of PyTorch on the device as a contender: it times itself by events, and its bytes are the peak of its own
/// allocator beside `idle`, its inputs.
[[nodiscard]] inline contender on_device(std::string name, std::shared_ptr<worker> const& peer,
                                         std::function<double()> difference) {
  return {.name = std::move(name),
          .run = [peer] { return peer->run(); },
          .difference = std::move(difference),
          .measured_bytes = [peer] { return peer->memory() - peer->idle(); }};
}

}  // namespace bench
