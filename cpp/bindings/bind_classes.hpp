#pragma once

#include <pybind11/pybind11.h>

namespace ufm_fast::bindings {

void bind_classes(pybind11::module_& module);

}  // namespace ufm_fast::bindings
