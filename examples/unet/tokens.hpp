// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace unet {

/// The words of a text: runs of ASCII letters and digits in lower case, everything else separates.
/// "Cat-face: o’clock" gives {"cat", "face", "o", "clock"}.
[[nodiscard]] inline std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  for (char c : text) {
    // std::tolower and std::isalnum depend on the locale; a vocabulary must not.
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    bool const letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (letter && !inside) words.emplace_back();
    if (letter) words.back() += c;
    inside = letter;
  }
  return words;
}

/// The words a model knows, in a fixed order; a caption becomes a bag of their numbers.
///
/// A plain list of words, so that it can be stored with a checkpoint and restored from it.
class vocabulary {
 public:
  /// Most tokens that one caption gives; later words are left out.
  static constexpr std::size_t max_tokens = 12;

  vocabulary() = default;

  /// Restores a vocabulary: word i is token i.
  /// @throws  std::invalid_argument if a word occurs twice
  explicit vocabulary(std::vector<std::string> words) : words_{std::move(words)} {
    if (words_.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
      throw std::invalid_argument{"a vocabulary must have fewer words than an int counts"};
    for (std::size_t i = 0; i < words_.size(); ++i)
      if (!number_.emplace(words_[i], static_cast<int>(i)).second)
        throw std::invalid_argument{"a vocabulary must list each word once, got '" + words_[i] + "' twice"};
  }

  /// Collects the words of `texts`, most frequent first, ties in alphabetical order.
  /// @param texts          captions; a word counts once for each text that has it
  /// @param minimum_count  rarer words are left out
  /// @param limit          at most this many words are kept
  [[nodiscard]] static vocabulary of(std::span<std::string const> texts, int minimum_count = 2,
                                     std::size_t limit = 1500) {
    std::map<std::string, int> counts;
    for (auto const& text : texts)
      for (auto& word : distinct(split_words(text))) ++counts[std::move(word)];
    std::vector<std::pair<std::string, int>> kept;
    for (auto const& entry : counts)
      if (entry.second >= minimum_count) kept.emplace_back(entry);
    std::stable_sort(kept.begin(), kept.end(), [](auto const& a, auto const& b) { return a.second > b.second; });
    if (kept.size() > limit) kept.resize(limit);
    std::vector<std::string> words;
    words.reserve(kept.size());
    for (auto& entry : kept) words.push_back(std::move(entry.first));
    return vocabulary{std::move(words)};
  }

  [[nodiscard]] std::vector<std::string> const& words() const noexcept { return words_; }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(words_.size()); }

  /// The caption's known words as numbers in [0, size()), each once, in the caption's order, at most `max_tokens`.
  /// Unknown words are skipped, so the result may be empty.
  [[nodiscard]] std::vector<int> tokens(std::string_view caption) const {
    std::vector<int> numbers;
    for (auto const& word : distinct(split_words(caption))) {
      auto const found = number_.find(word);
      if (found == number_.end()) continue;
      numbers.push_back(found->second);
      if (numbers.size() == max_tokens) break;
    }
    return numbers;
  }

 private:
  /// `words` without repetitions, first occurrences in their order; captions are short, so the search is linear.
  static std::vector<std::string> distinct(std::vector<std::string> words) {
    auto end = words.begin();
    for (auto word = words.begin(); word != words.end(); ++word)
      if (std::find(words.begin(), end, *word) == end) {
        if (word != end) *end = std::move(*word);
        ++end;
      }
    words.erase(end, words.end());
    return words;
  }

  std::vector<std::string> words_;
  std::unordered_map<std::string, int> number_;
};

}  // namespace unet
