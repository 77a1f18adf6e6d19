# Installs what another project needs: our headers, those of <Eigen/Dense> unless the project brings Eigen
# (UFM_FAST_VENDOR_EIGEN), and the CMake package. Says where the shared library goes.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
include("${CMAKE_CURRENT_LIST_DIR}/eigen_headers.cmake")

option(UFM_FAST_VENDOR_EIGEN "Install the headers of <Eigen/Dense> beside ours" OFF)
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
  ufm_fast_dense_eigen(eigen_headers "${eigen_include}")
  foreach(header IN LISTS eigen_headers)
    cmake_path(GET header PARENT_PATH folder)
    cmake_path(RELATIVE_PATH folder BASE_DIRECTORY "${eigen_include}")
    install(FILES "${header}" DESTINATION "${UFM_FAST_INCLUDE_DIR}/eigen3/${folder}")
  endforeach()
endif()

# Builds a shared library into the folder of all, for they find each other there, and installs it.
function(ufm_fast_install_library target)
  set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib"
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
  install(TARGETS ${target} RUNTIME DESTINATION "${UFM_FAST_LIBRARY_DIR}" LIBRARY DESTINATION "${UFM_FAST_LIBRARY_DIR}"
    ARCHIVE DESTINATION "${UFM_FAST_LIBRARY_DIR}")
endfunction()
