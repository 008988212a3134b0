# SPDX-License-Identifier: Apache-2.0
# Installs headers, licence and the package behind find_package(sara).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/sara)

install(TARGETS sara EXPORT sara-targets FILE_SET HEADERS)
install(EXPORT sara-targets NAMESPACE sara:: DESTINATION ${package_dir})
# Below 1.0 a minor version may break its users. Headers serve every architecture.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/sara-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
configure_package_config_file(cmake/sara-config.cmake.in ${PROJECT_BINARY_DIR}/sara-config.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
install(FILES ${PROJECT_BINARY_DIR}/sara-config.cmake ${PROJECT_BINARY_DIR}/sara-config-version.cmake
              cmake/cuda.cmake cmake/torch.cmake
        DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
