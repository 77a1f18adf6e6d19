#pragma once

#include "level.hpp"

namespace ufm_fast::bindings {

/// The level that Python has loaded; an std::logic_error before.
const Level& level();

/// The functions of the core for numbers of type T.
template <class T>
const Functions<T>& core() {
  return level().in<T>();
}

/// Those that exist in double precision only.
inline const DoubleFunctions<double>& double_core() { return level().in_double_only; }

}  // namespace ufm_fast::bindings
