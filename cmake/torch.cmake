# SPDX-License-Identifier: Apache-2.0
# The wing sara/torch as target sara_torch, sara::torch, where CMake's package Torch is found.
# In a function, since the package sets variables of its caller, compiler flags among them; targets outlive it.
function(sara_add_torch)
  find_package(Torch QUIET)
  if(NOT Torch_FOUND)
    message(STATUS "sara: no libtorch found (CMake package Torch), so sara/torch is left out")
    return()
  endif()
  add_library(sara_torch INTERFACE)
  add_library(sara::torch ALIAS sara_torch)
  target_link_libraries(sara_torch INTERFACE sara::sara ${TORCH_LIBRARIES})
endfunction()
