#pragma once

// Tells which instruction-set levels this machine runs: at import, and when a build chooses what to make.

#include <cstdint>
#include <string>
#include <vector>

#if defined(__x86_64__) || (defined(_M_X64) && !defined(_M_ARM64EC))
#define UFM_FAST_X86_64
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace ufm_fast {

#ifdef UFM_FAST_X86_64

namespace detail {

struct Registers {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// The answer of CPUID, all zero if this processor has no such leaf.
inline Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  Registers r;
#ifdef _MSC_VER
  int values[4];
  __cpuid(values, static_cast<int>(leaf & 0x80000000u));
  if (static_cast<std::uint32_t>(values[0]) >= leaf) {
    __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
    r.eax = static_cast<std::uint32_t>(values[0]);
    r.ebx = static_cast<std::uint32_t>(values[1]);
    r.ecx = static_cast<std::uint32_t>(values[2]);
    r.edx = static_cast<std::uint32_t>(values[3]);
  }
#else
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

/// XCR0: the register states that the operating system saves. Valid only if CPUID reports OSXSAVE.
inline std::uint64_t saved_states() {
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
#endif
}

constexpr std::uint32_t bit(int position) { return std::uint32_t{1} << position; }

constexpr bool has(std::uint64_t value, std::uint64_t mask) { return (value & mask) == mask; }

}  // namespace detail

/// Names of the levels, best last.
inline std::vector<std::string> levels() {
  using namespace detail;
  std::vector<std::string> result{"baseline"};

  constexpr std::uint32_t fma = bit(12), movbe = bit(22), popcnt = bit(23), osxsave = bit(27), avx = bit(28),
                          f16c = bit(29);
  if (!has(cpuid(1).ecx, fma | movbe | popcnt | osxsave | avx | f16c)) return result;

  constexpr std::uint32_t bmi1 = bit(3), avx2 = bit(5), bmi2 = bit(8), lzcnt = bit(5);
  constexpr std::uint32_t xmm_and_ymm = bit(1) | bit(2);
  const std::uint32_t extended = cpuid(7).ebx;
  const std::uint64_t saved = saved_states();
  if (!has(extended, bmi1 | avx2 | bmi2) || !has(cpuid(0x80000001u).ecx, lzcnt) || !has(saved, xmm_and_ymm))
    return result;
  result.push_back("v3");

  constexpr std::uint32_t avx512f = bit(16), avx512dq = bit(17), avx512cd = bit(28), avx512bw = bit(30),
                          avx512vl = bit(31);
  constexpr std::uint32_t masks_and_zmm = bit(5) | bit(6) | bit(7);
  if (has(extended, avx512f | avx512dq | avx512cd | avx512bw | avx512vl) && has(saved, masks_and_zmm))
    result.push_back("v4");
  return result;
}

#else

inline std::vector<std::string> levels() { return {"baseline"}; }

#endif

}  // namespace ufm_fast
