# The same sources are compiled once per instruction-set level, each into a shared object of its own: the flags of two
# levels never meet in one. cpp/dispatch/levels.hpp tests at run time for every feature enabled here.
include(CheckCXXSourceCompiles)
include("${CMAKE_CURRENT_LIST_DIR}/native.cmake")

set(flags_baseline "")
if(MSVC)
  set(flags_v3 /arch:AVX2)
  set(flags_v4 /arch:AVX512)
else()
  set(flags_v3 -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mmovbe -mpopcnt)
  ufm_fast_known_flags(vectors_of_512 -mprefer-vector-width=512)
  set(flags_v4 ${flags_v3} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl ${vectors_of_512})
  set(flags_native ${ufm_fast_native_flags})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's own AVX-512 intrinsics raise these; the other levels, of the same sources, keep them.
    list(APPEND flags_v4 -Wno-uninitialized -Wno-maybe-uninitialized)
    list(APPEND flags_native -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
endif()

# A universal macOS build compiles this for every architecture, so it holds only if all of them are x86-64.
check_cxx_source_compiles(
  "#if !defined(__x86_64__) && !(defined(_M_X64) && !defined(_M_ARM64EC))
   #error
   #endif
   int main() {}"
  UFM_FAST_X86_64)

# Sets `result` to the levels that exist for the processor the compiler targets.
function(ufm_fast_supported_levels result)
  set(levels baseline)
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

set(ufm_fast_dispatch "${CMAKE_CURRENT_LIST_DIR}/../dispatch")

# Sets `result` to the best of the levels that this machine runs: found out by running the test that chooses at import.
function(ufm_fast_best_level result supported)
  list(GET supported -1 best)
  if(NOT CMAKE_CROSSCOMPILING AND NOT best STREQUAL "baseline")
    try_run(ran compiled "${CMAKE_CURRENT_BINARY_DIR}/best_level" "${ufm_fast_dispatch}/best_level.cpp"
      CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${ufm_fast_dispatch}" RUN_OUTPUT_VARIABLE best)
    if(NOT compiled OR NOT ran EQUAL 0 OR NOT best IN_LIST supported)
      set(best baseline)
    endif()
  endif()
  message(STATUS "Best instruction-set level of this machine: ${best}")
  set(${result} ${best} PARENT_SCOPE)
endfunction()

# Sets `result` to the optimisation `usual`, or to `smaller` for the baseline of x86-64, which is for processors from before
# 2013: less optimisation makes smaller shared objects.
function(ufm_fast_optimisation result level usual smaller)
  if(UFM_FAST_X86_64 AND level STREQUAL "baseline")
    set(${result} ${smaller} PARENT_SCOPE)
  else()
    set(${result} ${usual} PARENT_SCOPE)
  endif()
endfunction()

# Lets a target be compiled for one level.
function(ufm_fast_compile_for target level optimisation)
  target_link_libraries(${target} PRIVATE ufm_fast::ufm_fast)
  target_compile_definitions(${target} PRIVATE EIGEN_MPL2_ONLY EIGEN_DONT_PARALLELIZE)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(MSVC)
    target_compile_options(${target} PRIVATE ${flags_${level}} /bigobj)
  else()
    target_compile_options(${target} PRIVATE
      ${flags_${level}} $<$<NOT:$<CONFIG:Debug>>:${optimisation}> -fno-math-errno -Wall -Wextra
      $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique -fno-ipa-cp-clone>)
  endif()
endfunction()

set(ufm_fast_compiled "${CMAKE_CURRENT_LIST_DIR}/../compiled")

# Sets `result` to the object library of drivers and losses for one level, which several shared objects are made of.
function(ufm_fast_drivers_for level result)
  set(target ufm_fast_drivers_${level})
  if(NOT TARGET ${target})
    add_library(${target} OBJECT "${ufm_fast_compiled}/drivers.cpp")
    ufm_fast_optimisation(optimisation ${level} -O3 -O2)  # where the time goes
    ufm_fast_compile_for(${target} ${level} ${optimisation})
    target_include_directories(${target} INTERFACE "${ufm_fast_compiled}")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
  set(${result} ${target} PARENT_SCOPE)
endfunction()
