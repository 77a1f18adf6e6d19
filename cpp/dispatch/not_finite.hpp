#pragma once

// What callers of a level are told of numbers that are not finite.

#include <stdexcept>
#include <string>

#include "level.hpp"

namespace ufm_fast {

/// An std::invalid_argument that names the first of `size` numbers that is not finite.
template <class T>
void require_finite(const Functions<T>& functions, const T* x, Index size, const std::string& name) {
  const Index i = functions.first_not_finite(x, size);
  if (i < 0) return;
  throw std::invalid_argument(name + " must be finite, but entry " + std::to_string(i) + " (in C order) is " +
                              std::to_string(x[i]));
}

/// What is told where a result is not finite, though all that it was made from is.
template <class T>
std::string overflow_message(const Problem<T>& problem, const std::string& what) {
  return what + " overflows " + (sizeof(T) == 8 ? "float64" : "float32") +
         " at this point, though all its entries are finite" +
         (problem.loss->needs_bias() ? ", or the thresholds in b do not ascend" : "");
}

}  // namespace ufm_fast
