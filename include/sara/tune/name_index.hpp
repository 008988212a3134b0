// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <sara/error.hpp>
#include <sara/select/names.hpp>
#include <sara/tensor/traits.hpp>

namespace sara::detail {

/// @throws value_error  for two names of one tensor of which the filter takes one
inline void require_undivided(char const* who, names const& filter, std::string const& a, std::string const& b) {
  bool const takes_a = filter.contains(a);
  require<value_error>(takes_a == filter.contains(b), who, ": '", a, "' and '", b,
                       "' share memory: expected names to take both or neither, got '", takes_a ? a : b, "' alone");
}

/// Which tensor a name stands for: tied weights are one tensor under several names, filtered names are none.
class name_index {
 public:
  /// Takes in all names.
  /// @return the tensors that may learn, each once, in order
  /// @throws shape_error  for two tensors over one memory with different extents, strides or dtypes
  /// @throws value_error  for a tensor that the filter takes by one name and leaves out by another
  /// @throws dtype_error  for a float64 tensor while computing in float32
  /// @throws name_error   where the filter takes none of them
  template <Real R>
  std::vector<named_tensor> adopt(std::vector<named_tensor> const& weights, names const& filter) {
    std::vector<named_tensor> learners;
    for (auto w = weights.begin(); w != weights.end(); ++w) {
      auto const tied =
          std::find_if(weights.begin(), w, [&](auto const& other) { return share_memory(w->tensor, other.tensor); });
      if (tied != w) {
        auto const number = entries_[static_cast<std::size_t>(tied - weights.begin())].second;
        require_undivided("fine_tuner", filter, w->name, tied->name);
        if (number) require_same_tensor(*w, *tied);
        entries_.emplace_back(w->name, number);
        continue;
      }
      if (!filter.contains(w->name)) {
        entries_.emplace_back(w->name, std::nullopt);
        continue;
      }
      require<dtype_error>(std::is_same_v<R, double> || w->tensor.type() != dtype::float64, "fine_tuner: '", w->name,
                           "' is float64: expected sara::compute_in<double>{} among the arguments, got computation in "
                           "float32");
      entries_.emplace_back(w->name, learners.size());
      learners.push_back(*w);
    }
    std::sort(entries_.begin(), entries_.end());
    if (learners.empty() && !weights.empty())
      throw name_error(text("fine_tuner: expected a name that the filter takes, got ", weights.size(),
                            " others, the first '", weights.front().name, "'"));
    return learners;
  }

  /// The number of the name's tensor among the learners; none if it may not learn.
  /// @throws name_error  for a name that was not taken in. Complexity: O(log names).
  [[nodiscard]] std::optional<std::size_t> operator[](std::string_view name) const {
    auto const found = std::lower_bound(entries_.begin(), entries_.end(), name,
                                        [](auto const& entry, std::string_view key) { return entry.first < key; });
    require<name_error>(found != entries_.end() && found->first == name,
                        "fine_tuner: expected the name of a tensor, got '", name, "'");
    return found->second;
  }

 private:
  static void require_same_tensor(named_tensor const& a, named_tensor const& b) {
    auto const &one = a.tensor, &other = b.tensor;
    require<shape_error>(one.shape() == other.shape() && one.stride() == other.stride() && one.type() == other.type(),
                         "fine_tuner: '", a.name, "' and '", b.name,
                         "' share memory: expected equal extents, strides and dtypes, got ", one.type(), " ",
                         one.shape(), " of strides ", one.stride(), " and ", other.type(), " ", other.shape(),
                         " of strides ", other.stride());
  }

  std::vector<std::pair<std::string, std::optional<std::size_t>>> entries_;  // sorted by name
};

}  // namespace sara::detail
