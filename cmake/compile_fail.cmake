# SPDX-License-Identifier: Apache-2.0
# cmake -D compiler=… -D source=… -D includes=… -P compile_fail.cmake
# Passes if `source` does not compile, and an error line matches what its `// expect: REGEX` line says.
file(STRINGS ${source} expectation REGEX "^// expect: .+" LIMIT_COUNT 1)
if(NOT expectation)
  message(FATAL_ERROR "${source}: expected a line '// expect: REGEX', found none")
endif()
string(REPLACE "// expect: " "" expectation "${expectation}")

list(TRANSFORM includes PREPEND -I)
set(ENV{LC_ALL} C)
execute_process(COMMAND ${compiler} -std=c++20 -fsyntax-only ${includes} ${source}
                RESULT_VARIABLE status ERROR_VARIABLE messages OUTPUT_QUIET)
if(status EQUAL 0)
  message(FATAL_ERROR "${source}: expected an error, but it compiles")
endif()
# The compiler quotes source lines too, so only the line of the error itself counts.
if(NOT messages MATCHES "error: [^\n]*(${expectation})")
  message(FATAL_ERROR "${source}: expected an error that matches\n  ${expectation}\ngot\n${messages}")
endif()
