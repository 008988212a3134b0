# SPDX-License-Identifier: Apache-2.0
# A program for each target, whichever way sara came.
enable_testing()

function(add_program target source)
  add_executable(use_${target} ../${source})
  target_link_libraries(use_${target} PRIVATE sara::${target})
  add_test(NAME ${target} COMMAND use_${target})
endfunction()

add_program(sara sara.cpp)
if(SARA_CUDA)
  add_program(cuda cuda.cu)
endif()
if(SARA_TORCH)
  add_program(torch torch.cpp)
endif()
