#include "bind_problem.hpp"

namespace ufm_fast::bindings {

void bind_problem_double(py::module_& module) { bind_problem<double>(module, "Problem64"); }

}  // namespace ufm_fast::bindings
