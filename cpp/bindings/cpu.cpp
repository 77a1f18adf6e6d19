// Compiled for the baseline processor only: this module is imported before any other of the package.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "levels.hpp"

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used(), pybind11::multiple_interpreters::not_supported()) {
  m.doc() = "Instruction-set levels of this machine.";
  m.def("levels", &ufm_fast::levels, "Names of the instruction-set levels that this machine runs, best last.");
}
