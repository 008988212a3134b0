# SPDX-License-Identifier: Apache-2.0
# Adds sara::cuda and sara::torch. Neither is required, so a missing one is said, not an error.
include(${CMAKE_CURRENT_LIST_DIR}/cuda.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/torch.cmake)

if(SARA_CUDA)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH CUDAToolkit_ROOT)  # its toolkit, where several are installed
    sara_add_cuda()
  else()
    set(sara_cuda_missing "CMake found no nvcc that works, on the PATH or as CUDACXX names it")
  endif()
  # Another project enables its languages itself. Before libtorch, whose package may enable CUDA as well.
  if(TARGET sara::cuda AND sara_has_programs)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100)
    endif()
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.9)  # which is the first to know the option
      add_compile_options("$<$<AND:$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>,$<CONFIG:Debug>>:--Ofast-compile=max>")
    endif()
  endif()
endif()
if(SARA_TORCH)
  sara_add_torch()
endif()

foreach(wing IN ITEMS cuda torch)
  if(sara_${wing}_missing)
    message(STATUS "sara: ${sara_${wing}_missing}, so sara::${wing} is left out")
  endif()
endforeach()
