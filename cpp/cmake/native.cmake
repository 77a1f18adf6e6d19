# The target ufm_fast::native, the core with the flags that make it fast on the machine that compiles: full optimisation,
# all of the machine's instructions, and no errno, which keeps elementwise functions from being vectorised.
include(CheckCXXCompilerFlag)

# Sets `result` to those of the flags that the compiler takes.
function(ufm_fast_known_flags result)
  set(known)
  foreach(flag IN LISTS ARGN)
    string(MAKE_C_IDENTIFIER "UFM_FAST_HAS${flag}" variable)
    check_cxx_compiler_flag(${flag} ${variable})
    if(${variable})
      list(APPEND known ${flag})
    endif()
  endforeach()
  set(${result} ${known} PARENT_SCOPE)
endfunction()

if(MSVC)
  set(ufm_fast_native_flags /arch:AVX2)  # of the machine's own instructions MSVC knows nothing
  set(ufm_fast_full_optimisation /O2)
else()
  ufm_fast_known_flags(ufm_fast_native_flags -march=native -mprefer-vector-width=512 -fno-math-errno)
  set(ufm_fast_full_optimisation -O3)
endif()

function(ufm_fast_add_native target)
  add_library(${target} INTERFACE ${ARGN})
  target_link_libraries(${target} INTERFACE ufm_fast::ufm_fast)
  target_compile_options(${target} INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:${ufm_fast_native_flags}>"
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:$<CONFIG:Debug>>>:${ufm_fast_full_optimisation}>")
endfunction()
