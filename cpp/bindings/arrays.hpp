#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <limits>
#include <memory>
#include <string>

#include "loaded.hpp"

namespace ufm_fast::bindings {

namespace py = pybind11;

inline std::string shape_text(const std::vector<Index>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

inline Index positive(Index value, const char* name) {
  if (value <= 0) throw py::value_error(std::string(name) + " must be positive, not " + std::to_string(value));
  return value;
}

/// How many numbers of T an array of this shape has: an exception where they fill 2^63 bytes or more.
template <class T>
Index array_size(std::initializer_list<Index> shape) {
  constexpr Index most = std::numeric_limits<Index>::max() / static_cast<Index>(sizeof(T));
  Index size = 1;
  for (Index length : shape) {
    if (length < 0 || (length > 0 && size > most / length)) {
      throw py::value_error("dimensions must be non-negative and give arrays of less than 2^63 bytes, not " +
                            shape_text(shape));
    }
    size *= length;
  }
  return size;
}

/// Whether the argument is a subclass of NumPy's array that may hide entries behind a mask.
inline bool is_masked(py::handle argument) {
  const auto plain = reinterpret_cast<PyTypeObject*>(py::detail::npy_api::get().PyArray_Type_);
  return Py_TYPE(argument.ptr()) != plain && py::hasattr(argument, "mask");
}

/// Why `argument` is not a C-contiguous array of T of this shape: the exception that says so is thrown.
template <class T>
[[noreturn]] void refuse_array(py::handle argument, const char* name, const std::vector<Index>& shape) {
  const std::string wanted = std::string(py::str(py::dtype::of<T>())) + " array of shape " + shape_text(shape);
  const std::string start = std::string(name) + " must be a C-contiguous " + wanted + ", not ";
  if (!py::isinstance<py::array>(argument)) {
    throw py::type_error(start + std::string(py::str(py::type::handle_of(argument).attr("__name__"))));
  }
  const py::array array = py::reinterpret_borrow<py::array>(argument);
  if (!array.dtype().is(py::dtype::of<T>()) && !array.dtype().equal(py::dtype::of<T>())) {
    throw py::type_error(start + "dtype " + std::string(py::str(array.dtype())));
  }
  const std::vector<Index> has(array.shape(), array.shape() + array.ndim());
  if (has != shape) throw py::value_error(start + "shape " + shape_text(has));
  if (is_masked(argument)) throw py::type_error(start + "a masked one (its method filled replaces what is masked)");
  throw py::value_error(
      start + "a strided or unaligned one (numpy.require(array, requirements=[\"C\", \"A\"]) copies it into order)");
}

/// The numbers of a C-contiguous array of T of this shape; anything else is an exception naming the argument.
template <class T>
const T* array_argument(py::handle argument, const char* name, std::initializer_list<Index> shape) {
  const bool typed = py::isinstance<py::array_t<T, py::array::c_style>>(argument);
  if (typed && !is_masked(argument)) {
    const py::array array = py::reinterpret_borrow<py::array>(argument);
    const bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0;
    if (aligned && array.ndim() == static_cast<py::ssize_t>(shape.size()) &&
        std::equal(shape.begin(), shape.end(), array.shape())) {
      return static_cast<const T*>(array.data());
    }
  }
  refuse_array<T>(argument, name, std::vector<Index>(shape));
}

template <class T>
MatrixView<const T> matrix_argument(py::handle argument, const char* name, Index rows, Index cols) {
  return {array_argument<T>(argument, name, {rows, cols}), rows, cols};
}

/// The numbers of such an array that is to be written to.
template <class T>
T* output_argument(py::handle argument, const char* name, std::initializer_list<Index> shape) {
  const T* data = array_argument<T>(argument, name, shape);
  if (!py::reinterpret_borrow<py::array>(argument).writeable()) {
    throw py::value_error(std::string(name) + " must be writable");
  }
  return const_cast<T*>(data);
}

/// Memory that the core keeps for the next of its size when this is gone.
struct KeptMemory {
  std::size_t bytes;
  void* data;

  explicit KeptMemory(std::size_t bytes) : bytes(bytes), data(double_core().allocate(bytes)) {}
  KeptMemory(const KeptMemory&) = delete;
  KeptMemory& operator=(const KeptMemory&) = delete;
  ~KeptMemory() { double_core().release(data, bytes); }
};

/// An uninitialised array. The memory of a large one is kept when the array is gone, for the next like it.
template <class T>
py::array_t<T> new_array(std::initializer_list<py::ssize_t> shape) {
  const Index size = array_size<T>(shape);
  if (static_cast<std::size_t>(size) * sizeof(T) < memory::large) {
    return py::array_t<T>(py::array::ShapeContainer(shape));
  }
  auto space = std::make_unique<KeptMemory>(static_cast<std::size_t>(size) * sizeof(T));
  const T* const data = static_cast<T*>(space->data);
  const py::capsule owner(space.get(), [](void* p) { delete static_cast<KeptMemory*>(p); });
  space.release();
  return py::array_t<T>(py::array::ShapeContainer(shape), data, owner);
}

using Array = py::array_t<double>;

inline Array copied(const std::vector<double>& numbers) {
  return Array(static_cast<py::ssize_t>(numbers.size()), numbers.data());
}

}  // namespace ufm_fast::bindings
