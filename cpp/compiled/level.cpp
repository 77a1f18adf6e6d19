#include "level.hpp"

#include <ufm_fast/version.hpp>

extern "C" UFM_FAST_VISIBLE const ufm_fast::Level* ufm_fast_level() {
  static const ufm_fast::Level level{UFM_FAST_LEVEL_NAME, UFM_FAST_VERSION, {}, {}, {}};
  return &level;
}
