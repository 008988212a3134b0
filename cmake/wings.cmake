# SPDX-License-Identifier: Apache-2.0
# Looks for what the wings sara/cuda and sara/torch need. Both are optional, so a missing one is said, not an error.
option(SARA_WINGS "Build what uses sara/cuda and sara/torch, where nvcc and libtorch are found" ON)
if(NOT SARA_WINGS)
  return()
endif()

if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
endif()
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
  include(${CMAKE_CURRENT_LIST_DIR}/cuda-target.cmake)
endif()
if(NOT TARGET sara::cuda)
  message(STATUS "sara: no nvcc found, so sara/cuda is left out")
endif()

include(${CMAKE_CURRENT_LIST_DIR}/torch.cmake)
sara_add_torch()
