#pragma once

#include <ufm_fast/losses/targets.hpp>

#include "arrays.hpp"

namespace ufm_fast::bindings {

/// The length of an array in its first dimension.
template <class T>
Index row_count(py::handle argument, const char* name) {
  if (!py::isinstance<py::array>(argument)) refuse_array<T>(argument, name, {0});
  return static_cast<Index>(py::len(argument));
}

/// Targets from an int64 array of labels (M,), an (M, K) array of T, or a tuple of the arrays of a sparse matrix in
/// compressed rows: row starts (int64, M + 1 of them), columns (int64) and entries (T).
template <class T>
Targets<T> targets_argument(py::handle argument, Index K) {
  if (py::isinstance<py::tuple>(argument)) {
    const auto parts = py::reinterpret_borrow<py::tuple>(argument);
    if (parts.size() != 3) throw py::value_error("targets in compressed rows must be (row starts, columns, entries)");
    const auto vector = [&parts](std::size_t i, auto one, const char* name) {
      using Number = decltype(one);
      const Index size = row_count<Number>(parts[i], name);
      const Number* data = array_argument<Number>(parts[i], name, {size});
      return std::vector<Number>(data, data + size);
    };
    return Targets<T>::of_sparse_rows(K, vector(0, Index(), "the row starts of targets"),
                                      vector(1, Index(), "the columns of targets"),
                                      vector(2, T(), "the entries of targets"));
  }
  const Index M = row_count<Index>(argument, "targets");
  if (py::reinterpret_borrow<py::array>(argument).ndim() == 2) {
    const T* data = array_argument<T>(argument, "targets", {M, K});
    return Targets<T>::of_rows(K, std::vector<T>(data, data + M * K));
  }
  const Index* data = array_argument<Index>(argument, "targets", {M});
  return Targets<T>::of_labels(K, std::vector<Index>(data, data + M));
}

}  // namespace ufm_fast::bindings
