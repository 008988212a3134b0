# SPDX-License-Identifier: Apache-2.0
# Takes ccache where it is installed; a launcher chosen on the command line stays.
find_program(SARA_CCACHE ccache)
mark_as_advanced(SARA_CCACHE)
foreach(language CXX CUDA)
  if(SARA_CCACHE AND NOT CMAKE_${language}_COMPILER_LAUNCHER)
    set(CMAKE_${language}_COMPILER_LAUNCHER ${SARA_CCACHE})
  endif()
endforeach()
