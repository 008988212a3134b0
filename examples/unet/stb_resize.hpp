// SPDX-License-Identifier: Apache-2.0
#pragma once

// A system has the header of stb's first resizer, of its second, or both.
#if __has_include(<stb/stb_image_resize.h>)
#include <stb/stb_image_resize.h>
#else
#include <stb/stb_image_resize2.h>
#endif

#include <cstdint>

namespace unet {

/// Scales a picture of 8-bit pixels, [height, width, 3].
/// @param stride  bytes from one row of the result to the next
inline void resize_rgb(std::uint8_t const* from, int from_width, int from_height, std::uint8_t* to, int width,
                       int height, int stride) {
#if __has_include(<stb/stb_image_resize.h>)
  stbir_resize_uint8(from, from_width, from_height, 0, to, width, height, stride, 3);
#else
  stbir_resize_uint8_linear(from, from_width, from_height, 0, to, width, height, stride, STBIR_RGB);
#endif
}

}  // namespace unet
