// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace unet {

#if defined(__AVX512F__)
inline constexpr int register_bytes = 64, registers = 32;
#elif defined(__AVX__)
inline constexpr int register_bytes = 32, registers = 16;
#else
inline constexpr int register_bytes = 16, registers = 16;
#endif

/// Numbers of type Real in a register, the unit in which strips are computed and aligned.
template <class Real>
inline constexpr std::int64_t lanes = register_bytes / static_cast<std::int64_t>(sizeof(Real));

[[nodiscard]] constexpr std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

/// Where the pixels of a batch of images lie in a padded strip.
///
/// A strip is one channel of a whole batch. Each image row is followed by one zero, each image by one row of zeros,
/// and the strip begins and ends with at least a row of zeros: a neighbour outside of the image then reads zero
/// without a branch, so a 3x3 convolution becomes a sum over shifted strips.
struct grid {
  std::int64_t batch = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  [[nodiscard]] constexpr std::int64_t pitch() const { return width + 1; }
  [[nodiscard]] constexpr std::int64_t image_pitch() const { return (height + 1) * pitch(); }
  [[nodiscard]] constexpr std::int64_t size() const { return batch * image_pitch(); }  ///< positions, zeros included
  [[nodiscard]] constexpr std::int64_t pixels() const { return height * width; }       ///< of one image

  /// Positions that kernels may compute: size() rounded up to whole vectors.
  template <class Real>
  [[nodiscard]] constexpr std::int64_t span() const {
    return round_up(size(), lanes<Real>);
  }
  /// Zeros in front of the first pixel, a whole number of vectors.
  template <class Real>
  [[nodiscard]] constexpr std::int64_t lead() const {
    return round_up(pitch() + 1, lanes<Real>);
  }
  /// Distance of two channels: an odd number of vectors, so that equal positions of many channels do not compete for
  /// the same cache set.
  template <class Real>
  [[nodiscard]] constexpr std::int64_t strip_pitch() const {
    auto const vectors = round_up(lead<Real>() + span<Real>() + pitch() + 1, lanes<Real>) / lanes<Real>;
    return (vectors | 1) * lanes<Real>;
  }

  [[nodiscard]] constexpr grid halved() const { return {batch, height / 2, width / 2}; }
  friend constexpr bool operator==(grid const&, grid const&) = default;
};

/// A view of the padded strips of an activation of shape [batch, channels, height, width].
///
/// As an NCHW tensor it starts at `first` and has the strides {grid.image_pitch(), pitch, grid.pitch(), 1}.
/// Whoever writes strips leaves their padding zero.
template <class Real>
struct strips {
  Real* first = nullptr;  ///< pixel (0, 0) of the first image in the first channel
  std::int64_t channels = 0;
  std::int64_t pitch = 0;  ///< distance of two channels
  unet::grid grid;

  [[nodiscard]] Real* operator[](std::int64_t channel) const { return first + channel * pitch; }
  [[nodiscard]] Real* image(std::int64_t channel, std::int64_t i) const {
    return first + channel * pitch + i * grid.image_pitch();
  }
  [[nodiscard]] strips slice(std::int64_t from, std::int64_t count) const {
    return {first + from * pitch, count, pitch, grid};
  }
  operator strips<Real const>() const requires(!std::is_const_v<Real>) { return {first, channels, pitch, grid}; }
};

/// Writes zero to every padding position of one strip in [begin, end).
template <class Real>
void zero_padding(grid const& where, Real* strip, std::int64_t begin, std::int64_t end) {
  auto const pitch = where.pitch();
  auto const last = std::min(end, where.size());
  auto row_of_image = begin / pitch % (where.height + 1);
  for (auto row = begin / pitch * pitch; row < last; row += pitch) {
    auto const column = row + where.width;
    if (row_of_image++ == where.height) {
      std::fill(strip + std::max(begin, row), strip + std::min(last, row + pitch), Real{0});
      row_of_image = 0;
    } else if (begin <= column && column < last) {
      strip[column] = Real{0};
    }
  }
  std::fill(strip + std::max(begin, last), strip + std::max(end, last), Real{0});
}

/// Memory for activations that is handed out again once returned: from the second step on, nothing is allocated.
///
/// Not for use by several threads at once; it must outlive the buffers taken from it.
template <class Real>
class workspace {
  struct release {
    void operator()(Real* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
  };
  using memory = std::unique_ptr<Real[], release>;

  /// Memory given back, and whose padding in it is zero.
  struct idle {
    memory numbers;
    std::int64_t channels;
    grid where;
  };

 public:
  /// Owns the memory of one activation and gives it back on destruction. Behaves as its `strips`.
  class buffer {
   public:
    buffer() = default;
    buffer(buffer&& other) noexcept
        : owner_{std::exchange(other.owner_, nullptr)},
          size_{other.size_},
          memory_{std::move(other.memory_)},
          view_{std::exchange(other.view_, {})} {}
    buffer& operator=(buffer&& other) noexcept {
      reset();
      owner_ = std::exchange(other.owner_, nullptr);
      size_ = other.size_;
      memory_ = std::move(other.memory_);
      view_ = std::exchange(other.view_, {});
      return *this;
    }
    ~buffer() { reset(); }

    void reset() {
      if (memory_) owner_->free_.emplace(size_, idle{std::move(memory_), view_.channels, view_.grid});
      view_ = {};
    }
    [[nodiscard]] strips<Real> const& view() const { return view_; }
    operator strips<Real>() const { return view_; }
    operator strips<Real const>() const { return view_; }

   private:
    friend workspace;
    workspace* owner_ = nullptr;
    std::int64_t size_ = 0;
    memory memory_;
    strips<Real> view_;
  };

  workspace() = default;
  workspace(workspace const&) = delete;
  workspace& operator=(workspace const&) = delete;

  /// Strips of undefined pixels, and zeros everywhere around them.
  [[nodiscard]] buffer take(std::int64_t channels, grid const& where) {
    auto const pitch = where.strip_pitch<Real>();
    auto const lead = where.lead<Real>();
    auto const needed = channels * pitch;
    buffer taken;
    taken.owner_ = this;
    // Best fit, but never more than a quarter too large: small activations must not hold the large ones' memory.
    bool padded = false;
    if (auto found = free_.lower_bound(needed); found != free_.end() && found->first <= needed + needed / 4) {
      taken.size_ = found->first;
      taken.memory_ = std::move(found->second.numbers);
      padded = found->second.where == where && channels <= found->second.channels;
      free_.erase(found);
    } else {
      taken.size_ = needed;
      taken.memory_.reset(new (std::align_val_t{64}) Real[static_cast<std::size_t>(needed)]);
      allocated_ += needed * static_cast<std::int64_t>(sizeof(Real));
    }
    if (!padded)
      for (std::int64_t c = 0; c < channels; ++c) {
        Real* const strip = taken.memory_.get() + c * pitch;
        std::fill(strip, strip + lead, Real{0});
        zero_padding(where, strip + lead, 0, pitch - lead);
      }
    taken.view_ = {taken.memory_.get() + lead, channels, pitch, where};
    return taken;
  }

  /// Bytes ever allocated: the peak of the activations' memory.
  [[nodiscard]] std::int64_t allocated() const { return allocated_; }

 private:
  std::multimap<std::int64_t, idle> free_;
  std::int64_t allocated_ = 0;
};

template <class Real>
using strip_buffer = typename workspace<Real>::buffer;

}  // namespace unet
