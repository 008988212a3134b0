# SPDX-License-Identifier: Apache-2.0
include(CMakeFindDependencyMacro)
find_dependency(Eigen3 3.4 NO_MODULE)
find_dependency(nlohmann_json 3.11)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/sara-targets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/cuda-target.cmake)  # sara::cuda, where the toolkit is

# The wing sara/torch, for those who ask for COMPONENTS torch: finding libtorch takes long.
set(sara_torch_FOUND FALSE)
if("torch" IN_LIST sara_FIND_COMPONENTS)
  include(${CMAKE_CURRENT_LIST_DIR}/torch.cmake)
  sara_add_torch()
  if(TARGET sara_torch)
    set(sara_torch_FOUND TRUE)
  endif()
endif()
if(sara_FIND_REQUIRED_torch AND NOT sara_torch_FOUND)
  set(sara_FOUND FALSE)
  set(sara_NOT_FOUND_MESSAGE "sara's component torch needs libtorch (CMake package Torch), which was not found")
endif()
