# Installs what another project needs: our headers, Eigen's unless the project brings them (UFM_FAST_VENDOR_EIGEN), and the
# CMake package. Says where the shared library goes.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

option(UFM_FAST_VENDOR_EIGEN "Install Eigen's headers beside ours" OFF)
set(UFM_FAST_INCLUDE_DIR "${CMAKE_INSTALL_INCLUDEDIR}" CACHE STRING "Where headers are installed")
set(UFM_FAST_LIBRARY_DIR "${CMAKE_INSTALL_LIBDIR}" CACHE STRING "Where the shared library is installed")
set(UFM_FAST_LIBRARY_FILE "${CMAKE_SHARED_LIBRARY_PREFIX}ufm_fast${CMAKE_SHARED_LIBRARY_SUFFIX}")
set(UFM_FAST_IMPORT_FILE "${CMAKE_IMPORT_LIBRARY_PREFIX}ufm_fast${CMAKE_IMPORT_LIBRARY_SUFFIX}")
set(UFM_FAST_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/ufm_fast" CACHE STRING "Where the CMake package is installed")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/ufm_fastConfig.cmake.in"
  "${CMAKE_CURRENT_BINARY_DIR}/ufm_fastConfig.cmake"
  INSTALL_DESTINATION "${UFM_FAST_CMAKE_DIR}" PATH_VARS UFM_FAST_INCLUDE_DIR UFM_FAST_LIBRARY_DIR)
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/ufm_fastConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)

install(DIRECTORY include/ufm_fast DESTINATION "${UFM_FAST_INCLUDE_DIR}")
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/ufm_fastConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/ufm_fastConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/native.cmake" DESTINATION "${UFM_FAST_CMAKE_DIR}")
if(UFM_FAST_VENDOR_EIGEN)
  get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
  install(DIRECTORY "${eigen_include}/Eigen" DESTINATION "${UFM_FAST_INCLUDE_DIR}/eigen3")
endif()
