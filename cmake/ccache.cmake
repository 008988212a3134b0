# SPDX-License-Identifier: Apache-2.0
# Takes ccache where it is installed; a launcher chosen on the command line stays.
find_program(SARA_CCACHE ccache)
mark_as_advanced(SARA_CCACHE)
if(SARA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${SARA_CCACHE})
endif()
