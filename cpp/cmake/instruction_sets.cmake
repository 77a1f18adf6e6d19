# The same sources are compiled once per instruction-set level, each into an extension module of its own: the flags of two
# levels never meet in one shared object. cpp/bindings/cpu.cpp tests at run time for every feature enabled here.
include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)

if(MSVC)
  set(flags_baseline "")
  set(flags_v3 /arch:AVX2)
  set(flags_v4 /arch:AVX512)
else()
  set(flags_baseline "")
  set(flags_v3 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mmovbe -mpopcnt)
  set(flags_v4 ${flags_v3} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl)
  set(flags_native -march=native)
  check_cxx_compiler_flag(-mprefer-vector-width=512 UFM_FAST_HAS_PREFER_VECTOR_WIDTH)
  if(UFM_FAST_HAS_PREFER_VECTOR_WIDTH)
    list(APPEND flags_v4 -mprefer-vector-width=512)
    list(APPEND flags_native -mprefer-vector-width=512)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's own AVX-512 intrinsics raise these; the other levels, of the same sources, keep them.
    list(APPEND flags_v4 -Wno-uninitialized -Wno-maybe-uninitialized)
    list(APPEND flags_native -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
endif()

# Sets `result` to the levels that exist for the processor the compiler targets.
function(ufm_fast_supported_levels result)
  set(levels baseline)
  # A universal macOS build compiles this for every architecture, so it holds only if all of them are x86-64.
  check_cxx_source_compiles(
    "#if !defined(__x86_64__) && !(defined(_M_X64) && !defined(_M_ARM64EC))
     #error
     #endif
     int main() {}"
    UFM_FAST_X86_64)
  if(UFM_FAST_X86_64)
    foreach(level v3 v4)
      list(JOIN flags_${level} " " CMAKE_REQUIRED_FLAGS)
      check_cxx_source_compiles("int main() {}" UFM_FAST_COMPILES_${level})
      if(UFM_FAST_COMPILES_${level})
        list(APPEND levels ${level})
      endif()
    endforeach()
  endif()
  set(${result} ${levels} PARENT_SCOPE)
endfunction()

set(UFM_FAST_LEVELS auto CACHE STRING
  "Instruction-set levels to build: auto (baseline and the best of this machine), all, or a list of baseline, v3, v4, native")

# Sets `result` to the levels that UFM_FAST_LEVELS stands for.
function(ufm_fast_chosen_levels result)
  ufm_fast_supported_levels(supported)
  set(levels ${UFM_FAST_LEVELS})
  if(levels STREQUAL "all")
    set(levels ${supported})
  elseif(levels STREQUAL "auto")
    ufm_fast_best_level(best "${supported}")
    set(levels baseline ${best})
    list(REMOVE_DUPLICATES levels)
  endif()
  foreach(level IN LISTS levels)
    if(NOT level IN_LIST supported AND NOT level STREQUAL "native")
      message(FATAL_ERROR "UFM_FAST_LEVELS must be auto, all or some of ${supported} and native, not ${UFM_FAST_LEVELS}")
    endif()
  endforeach()
  set(${result} ${levels} PARENT_SCOPE)
endfunction()

# Sets `result` to the best of the levels that this machine runs: found out by running the test that chooses at import.
function(ufm_fast_best_level result supported)
  list(GET supported -1 best)
  if(NOT CMAKE_CROSSCOMPILING AND NOT best STREQUAL "baseline")
    try_run(ran compiled "${CMAKE_CURRENT_BINARY_DIR}/best_level" "${CMAKE_CURRENT_SOURCE_DIR}/cpp/cmake/best_level.cpp"
      CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${CMAKE_CURRENT_SOURCE_DIR}/cpp/bindings" RUN_OUTPUT_VARIABLE best)
    if(NOT compiled OR NOT ran EQUAL 0 OR NOT best IN_LIST supported)
      set(best baseline)
    endif()
  endif()
  message(STATUS "Best instruction-set level of this machine: ${best}")
  set(${result} ${best} PARENT_SCOPE)
endfunction()

option(UFM_FAST_UNITY
  "Compile each level as one source, which takes half the work; off, files are compiled apart, for quick rebuilds" ON)

# Adds the extension module _core_<level>, installed inside the package.
function(ufm_fast_add_module level)
  set(module _core_${level})
  pybind11_add_module(${module} MODULE NO_EXTRAS
    cpp/bindings/module.cpp cpp/bindings/problem_double.cpp cpp/bindings/problem_float.cpp
    cpp/bindings/bind_classes.cpp cpp/bindings/bind_ordinal.cpp cpp/bindings/bind_passes.cpp cpp/bindings/bind_spectra.cpp
    cpp/bindings/bind_statistics.cpp)
  target_link_libraries(${module} PRIVATE ufm_fast::ufm_fast)
  target_compile_definitions(${module} PRIVATE
    UFM_FAST_MODULE=${module} UFM_FAST_ISA_NAME="${level}" EIGEN_MPL2_ONLY EIGEN_DONT_PARALLELIZE)
  set_target_properties(${module} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    UNITY_BUILD ${UFM_FAST_UNITY} UNITY_BUILD_BATCH_SIZE 0)
  if(NOT UFM_FAST_UNITY)
    target_precompile_headers(${module} PRIVATE
      <pybind11/numpy.h> <pybind11/pybind11.h> <pybind11/stl.h> <Eigen/Core> <Eigen/Eigenvalues>)
  endif()
  if(MSVC)
    target_compile_options(${module} PRIVATE ${flags_${level}} /bigobj)
  else()
    target_compile_options(${module} PRIVATE
      ${flags_${level}} -O3 -fno-math-errno -Wall -Wextra
      $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
  endif()
  install(TARGETS ${module} DESTINATION _runtime)
endfunction()
