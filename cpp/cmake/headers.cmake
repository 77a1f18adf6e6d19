# Installs what a C++ project needs inside the package: our headers, Eigen's, and the CMake configuration.
include(CMakePackageConfigHelpers)
set(version_file "${CMAKE_CURRENT_BINARY_DIR}/ufm_fastConfigVersion.cmake")
write_basic_package_version_file("${version_file}" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)

install(DIRECTORY cpp/include/ufm_fast DESTINATION include)
install(DIRECTORY "${eigen_include}/Eigen" DESTINATION include/eigen3)
install(FILES cpp/cmake/ufm_fastConfig.cmake "${version_file}" DESTINATION cmake)
