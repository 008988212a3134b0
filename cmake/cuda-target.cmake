# SPDX-License-Identifier: Apache-2.0
# sara::cuda: sara with the CUDA wing, where the toolkit is found. For sara's own build and for its package.
find_package(CUDAToolkit 12.8 QUIET)
if(CUDAToolkit_FOUND AND NOT TARGET sara::cuda)
  add_library(sara::cuda INTERFACE IMPORTED GLOBAL)
  target_link_libraries(sara::cuda INTERFACE sara::sara CUDA::cudart CUDA::cublas CUDA::cusolver)
  # CMake 3.25 knows no CUDA standard 20. Kernels call std::bit_cast and the like, which are constexpr.
  target_compile_options(sara::cuda INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>")
endif()
