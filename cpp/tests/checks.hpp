#pragma once

#include <cmath>
#include <cstdio>

namespace ufm_fast::tests {

/// How many checks have failed; a program's exit status.
inline int& failures() {
  static int count = 0;
  return count;
}

inline void check(bool holds, const char* what) {
  if (holds) return;
  ++failures();
  std::fprintf(stderr, "failed: %s\n", what);
}

inline void check_close(double value, double expected, double tolerance, const char* what) {
  if (std::abs(value - expected) <= tolerance * std::abs(expected)) return;  // false for NaN
  ++failures();
  std::fprintf(stderr, "failed: %s is %.17g, not %.17g\n", what, value, expected);
}

}  // namespace ufm_fast::tests
