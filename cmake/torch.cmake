# SPDX-License-Identifier: Apache-2.0
# sara::torch: sara with the wing for libtorch, where CMake's package Torch is found; sara_torch_missing says why not.
# For sara's own build and for its package. In a function, since Torch sets variables of its caller, compiler flags
# among them; targets outlive it.
function(sara_add_torch)
  if(TARGET sara::torch)
    return()
  endif()
  find_package(Torch QUIET GLOBAL)  # its targets name each other, wherever they are used
  if(NOT Torch_FOUND)
    set(sara_torch_missing "expected libtorch (CMake package Torch), found none" PARENT_SCOPE)
    return()
  endif()
  add_library(sara::torch INTERFACE IMPORTED GLOBAL)
  target_link_libraries(sara::torch INTERFACE sara::sara ${TORCH_LIBRARIES})
endfunction()
