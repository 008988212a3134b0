# SPDX-License-Identifier: Apache-2.0
# Looks for what the wings sara/cuda and sara/torch need. Both are optional, so a missing one is said, not an error.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_ARCHITECTURES 80 90 100)
  enable_language(CUDA)
else()
  message(STATUS "sara: no nvcc found, so sara/cuda is left out")
endif()

find_package(Torch QUIET)
if(NOT Torch_FOUND)
  message(STATUS "sara: no libtorch found (CMake package Torch), so sara/torch is left out")
endif()
