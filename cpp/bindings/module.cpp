#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <new>

#include "bind_classes.hpp"
#include "bind_ordinal.hpp"
#include "bind_passes.hpp"
#include "bind_problem.hpp"
#include "bind_spectra.hpp"
#include "bind_statistics.hpp"
#include "levels.hpp"
#include "load_level.hpp"
#include "loaded.hpp"

namespace ufm_fast::bindings {

namespace py = pybind11;

namespace {

const Level* loaded = nullptr;

/// Takes a level from its shared object in a folder. Returns the name that it has itself.
std::string load(const std::filesystem::path& folder, const std::string& name) {
  loaded = &load_level((folder / "").native(), name);
  return loaded->name;
}

/// Fills an entry of the table of BLAS functions from a capsule of scipy.linalg.cython_blas.
void set(BlasFunction& entry, const py::capsule& capsule, int integer_bytes) {
  if (integer_bytes != 4 && integer_bytes != 8) {
    throw py::value_error("integer_bytes must be 4 or 8, not " + std::to_string(integer_bytes));
  }
  entry.set(capsule.get_pointer(), integer_bytes);
}

template <class T>
void set_gemm(const py::capsule& capsule, int integer_bytes) {
  set(core<T>().gemm_function(), capsule, integer_bytes);
}

template <class T>
void set_syrk(const py::capsule& capsule, int integer_bytes) {
  set(core<T>().syrk_function(), capsule, integer_bytes);
}

}  // namespace

const Level& level() {
  if (loaded == nullptr) throw std::logic_error("no level of the core has been loaded");
  return *loaded;
}

}  // namespace ufm_fast::bindings

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used(), pybind11::multiple_interpreters::not_supported()) {
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
  m.attr("most_threads") = ufm_fast::most_threads;
  m.attr("small_product") = ufm_fast::small_product;
  m.attr("eigen_version") = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                            std::to_string(EIGEN_MINOR_VERSION);
  m.def("levels", &ufm_fast::levels, "Names of the instruction-set levels that this machine runs, best last.");
  m.def("level_file", &ufm_fast::level_file, py::arg("name"));
  m.def("load_level", &load, py::arg("folder"), py::arg("name"));
  m.def("set_dgemm", &set_gemm<double>, py::arg("capsule"), py::arg("integer_bytes"));
  m.def("set_sgemm", &set_gemm<float>, py::arg("capsule"), py::arg("integer_bytes"));
  m.def("set_dsyrk", &set_syrk<double>, py::arg("capsule"), py::arg("integer_bytes"));
  m.def("set_ssyrk", &set_syrk<float>, py::arg("capsule"), py::arg("integer_bytes"));
  bind_problem<double>(m, "Problem64");
  bind_problem<float>(m, "Problem32");
  bind_classes(m);
  bind_ordinal(m);
  bind_passes(m);
  bind_spectra(m);
  bind_statistics(m);
}
