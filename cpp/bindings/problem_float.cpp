#include "bind_problem.hpp"

namespace ufm_fast::bindings {

void bind_problem_float(py::module_& module) { bind_problem<float>(module, "Problem32"); }

}  // namespace ufm_fast::bindings
