#include "drivers.hpp"

namespace ufm_fast {

UFM_FAST_DRIVERS(, double)
UFM_FAST_DRIVERS(, float)

}  // namespace ufm_fast
