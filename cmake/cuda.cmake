# SPDX-License-Identifier: Apache-2.0
# sara::cuda: sara with the CUDA wing, where the toolkit is found; sara_cuda_missing says why not. For sara's own build
# and for its package. In a function, since finding sets variables of the caller; targets outlive it.
function(sara_add_cuda)
  if(TARGET sara::cuda)
    return()
  endif()
  set(needed 12.8)
  find_package(CUDAToolkit ${needed} QUIET)
  if(NOT CUDAToolkit_FOUND)
    if(NOT CUDAToolkit_VERSION)
      set(CUDAToolkit_VERSION none)
    endif()
    set(sara_cuda_missing "expected nvcc ${needed} or later, found ${CUDAToolkit_VERSION}" PARENT_SCOPE)
    return()
  endif()
  add_library(sara::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(sara::cuda INTERFACE sara::sara CUDA::cudart CUDA::cublas CUDA::cusolver)
  # CMake 3.25 knows no CUDA standard 20. Kernels call std::bit_cast and the like, which are constexpr.
  target_compile_options(sara::cuda INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>")
endfunction()
