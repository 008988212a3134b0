# SPDX-License-Identifier: Apache-2.0
include(CMakeFindDependencyMacro)
find_dependency(Eigen3 3.4 NO_MODULE)
find_dependency(nlohmann_json 3.11)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/sara-targets.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/cuda-target.cmake)  # sara::cuda, where the toolkit is
