# SPDX-License-Identifier: Apache-2.0
# What the project's own units are compiled with. Not part of sara::sara: a user's warnings are the user's choice.
# The presets turn them into errors, so that a compiler newer than ours breaks nobody's build.
add_library(sara_warnings INTERFACE)
target_compile_options(sara_warnings INTERFACE
  $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-Wall;-Wextra;-Wconversion;-Wshadow>
  # CUB's dispatch objects look uninitialised to GCC 12, which has no system header to forgive behind nvcc.
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow,-Wno-maybe-uninitialized>)
# For units that may use AVX-512: GCC 12's own headers of it look uninitialised to it (GCC bug 105593).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(sara_avx512_warnings -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
# Eigen's own marks for kernels, which nothing here uses, are full of what nvcc warns about.
target_compile_definitions(sara_warnings INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:EIGEN_NO_CUDA>)
