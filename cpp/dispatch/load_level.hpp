#pragma once

#include <ufm_fast/version.hpp>

#include "level.hpp"
#include "loader.hpp"

namespace ufm_fast {

/// The name of the file with the shared object of a level.
inline std::string level_file(const std::string& name) {
  return UFM_FAST_LEVEL_PREFIX "ufm_fast_" + name + UFM_FAST_LEVEL_SUFFIX;
}

/// The table of a level, from its shared object in this folder (with a separator at its end). An std::runtime_error
/// where it cannot be loaded, or is of another version.
inline const Level& load_level(const PathText& folder, const std::string& name) {
  const std::string file = level_file(name);
  const auto table = reinterpret_cast<const Level* (*)()>(function_in(folder, file, level_symbol));
  if (std::string(table()->version) != UFM_FAST_VERSION) {
    throw std::runtime_error(file + " is of version " + table()->version + ", not " UFM_FAST_VERSION);
  }
  return *table();
}

}  // namespace ufm_fast
