# The header-only C++ core: after find_package(ufm_fast), link ufm_fast::ufm_fast. Its Eigen headers are used unless the
# target that links it has another Eigen earlier on its include path.
include(CMakeFindDependencyMacro)
find_dependency(Threads)

if(NOT TARGET ufm_fast::ufm_fast)
  get_filename_component(ufm_fast_root "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
  add_library(ufm_fast::ufm_fast INTERFACE IMPORTED)
  set_target_properties(ufm_fast::ufm_fast PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${ufm_fast_root}/include;${ufm_fast_root}/include/eigen3"
    INTERFACE_COMPILE_FEATURES cxx_std_17
    INTERFACE_LINK_LIBRARIES Threads::Threads)
  unset(ufm_fast_root)
endif()
