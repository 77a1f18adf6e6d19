#include <pybind11/pybind11.h>

#include <new>
#include <ufm_fast/base/parallel.hpp>
#include <ufm_fast/blas/blas.hpp>

#include "bind_classes.hpp"
#include "bind_ordinal.hpp"
#include "bind_passes.hpp"
#include "bind_spectra.hpp"
#include "bind_statistics.hpp"

namespace ufm_fast::bindings {

namespace py = pybind11;

void bind_problem_double(py::module_& module);
void bind_problem_float(py::module_& module);

namespace {

/// Fills an entry of the table of BLAS functions from a capsule of scipy.linalg.cython_blas.
template <BlasFunction& entry()>
void set(const py::capsule& capsule, int integer_bytes) {
  if (integer_bytes != 4 && integer_bytes != 8) {
    throw py::value_error("integer_bytes must be 4 or 8, not " + std::to_string(integer_bytes));
  }
  entry().set(capsule.get_pointer(), integer_bytes);
}

}  // namespace

}  // namespace ufm_fast::bindings

PYBIND11_MODULE(UFM_FAST_MODULE, m, pybind11::mod_gil_not_used(), pybind11::multiple_interpreters::not_supported()) {
  using namespace ufm_fast::bindings;
  m.doc() = "Compiled core of ufm_fast";
  pybind11::register_local_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
      PyErr_SetString(PyExc_MemoryError,
                      "the compiled core cannot allocate the memory that these dimensions and threads take");
    }
  });
  m.attr("isa") = UFM_FAST_ISA_NAME;
  m.attr("most_threads") = ufm_fast::most_threads;
  m.attr("small_product") = ufm_fast::small_product;
  m.attr("eigen_version") = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                            std::to_string(EIGEN_MINOR_VERSION);
  m.def("set_dgemm", &set<ufm_fast::gemm_function<double>>, py::arg("capsule"), py::arg("integer_bytes"));
  m.def("set_sgemm", &set<ufm_fast::gemm_function<float>>, py::arg("capsule"), py::arg("integer_bytes"));
  m.def("set_dsyrk", &set<ufm_fast::syrk_function<double>>, py::arg("capsule"), py::arg("integer_bytes"));
  m.def("set_ssyrk", &set<ufm_fast::syrk_function<float>>, py::arg("capsule"), py::arg("integer_bytes"));
  bind_problem_double(m);
  bind_problem_float(m);
  bind_classes(m);
  bind_ordinal(m);
  bind_passes(m);
  bind_spectra(m);
  bind_statistics(m);
}
