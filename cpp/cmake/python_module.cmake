# The extension module of one instruction-set level, for the Python package.
option(UFM_FAST_UNITY
  "Compile each level as one source, which takes half the work; off, files are compiled apart, for quick rebuilds" ON)

# Adds the extension module _core_<level>, installed inside the package; drivers and losses are those of the shared object
# of the level, which the C library loads as well.
function(ufm_fast_add_module level)
  set(module _core_${level})
  pybind11_add_module(${module} MODULE NO_EXTRAS
    cpp/bindings/module.cpp cpp/bindings/problem_double.cpp cpp/bindings/problem_float.cpp
    cpp/bindings/bind_classes.cpp cpp/bindings/bind_ordinal.cpp cpp/bindings/bind_passes.cpp cpp/bindings/bind_spectra.cpp
    cpp/bindings/bind_statistics.cpp)
  ufm_fast_compile_for(${module} ${level} -O2)
  target_link_libraries(${module} PRIVATE ufm_fast_${level})
  target_compile_definitions(${module} PRIVATE UFM_FAST_MODULE=${module})
  set_target_properties(${module} PROPERTIES UNITY_BUILD ${UFM_FAST_UNITY} UNITY_BUILD_BATCH_SIZE 0)
  if(NOT UFM_FAST_UNITY)
    target_precompile_headers(${module} PRIVATE
      <pybind11/numpy.h> <pybind11/pybind11.h> <pybind11/stl.h> <Eigen/Core> <Eigen/Eigenvalues>)
  endif()
  set_target_properties(${module} PROPERTIES
    INSTALL_RPATH "$<IF:$<PLATFORM_ID:Darwin>,@loader_path,$ORIGIN>/../${UFM_FAST_LIBRARY_DIR}")
  install(TARGETS ${module} DESTINATION _runtime)
endfunction()
