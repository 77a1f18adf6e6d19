#include "bind_spectra.hpp"

#include <functional>
#include <memory>

#include "bind_problem.hpp"

namespace ufm_fast::bindings {

namespace {

/// A copy of the start vectors, (s, n) and finite.
std::vector<double> start_vectors(py::handle start, Index rows, Index size) {
  const double* data = array_argument<double>(start, "start", {rows, size});
  if (core<double>().first_not_finite(data, rows * size) >= 0) throw py::value_error("start must be finite");
  return {data, data + rows * size};
}

struct Solution {
  EigenResult result;
  Array vectors;
};

/// Makes the operator once the GIL is released.
using MakeOperator = std::function<std::unique_ptr<LinearOperator<double>>(const Execution&)>;

Solution lowest_eigenpairs_of(const MakeOperator& make, Index size, py::handle start, EigenOptions options,
                              int threads) {
  const Index rows = row_count<double>(start, "start");
  std::vector<double> vectors_in = start_vectors(start, rows, size);
  if (options.count < 1 || options.guards < 0 || rows < options.count) {
    throw py::value_error("count must be positive, guards not negative, and start have at least count rows");
  }
  if ((options.basis - 6) / 3 - options.guards < options.count || options.basis < rows) {
    throw py::value_error("basis must be at least 3 (count + guards) + 6, and the rows of start");
  }
  array_size<double>({3, options.basis, size});  // the search space, its image and the residuals
  Array vectors = new_array<double>({options.count, size});
  const MatrixView<double> out(vectors.mutable_data(), options.count, size);
  EigenResult result = run_released(threads, [&](const Execution& e) {
    return double_core().lowest_eigenpairs(*make(e), {vectors_in.data(), rows, size}, out, options, e);
  });
  return {std::move(result), vectors};
}

/// (values, vectors, products, norm, finished)
py::tuple searched(const Solution& solution) {
  const EigenResult& result = solution.result;
  return py::make_tuple(copied(result.values), solution.vectors, result.products, result.norm, result.finished);
}

py::tuple hessian_eigenpairs(const DoubleBinding& binding, py::handle W, py::handle H, py::handle b, py::handle start,
                             Index count, Index guards, Index basis, double tolerance, Index max_products, bool store,
                             bool deflate, int threads) {
  const auto p = binding.finite_point(W, H, b);
  const auto make = [&](const Execution& e) {
    return double_core().hessian_operator(binding.problem(), p, store, deflate, e);
  };
  return searched(
      lowest_eigenpairs_of(make, binding.size(), start, {count, basis, tolerance, max_products, guards}, threads));
}

/// Of -G^T G across the rows of `deflated`.
py::tuple gradient_eigenpairs(const DoubleBinding& binding, py::handle W, py::handle H, py::handle b,
                              py::handle deflated, py::handle start, Index count, Index guards, Index basis,
                              double tolerance, Index max_products, bool store, int threads) {
  const auto p = binding.finite_point(W, H, b);
  const Problem<double>& problem = binding.problem();
  const MatrixView<const double> without =
      matrix_argument<double>(deflated, "deflated", row_count<double>(deflated, "deflated"), problem.K);
  const auto make = [&](const Execution& e) { return double_core().gradient_operator(problem, p, store, without, e); };
  return searched(
      lowest_eigenpairs_of(make, problem.K, start, {count, basis, tolerance, max_products, guards}, threads));
}

py::tuple leading_eigenpairs(py::handle matrix, py::handle start, Index count, Index basis, double tolerance,
                             Index max_products, int threads) {
  const Index n = row_count<double>(matrix, "matrix");
  const MatrixView<const double> S = matrix_argument<double>(matrix, "matrix", n, n);
  const auto make = [&](const Execution&) { return double_core().negated_symmetric(S); };
  const auto [result, vectors] = lowest_eigenpairs_of(make, n, start, {count, basis, tolerance, max_products}, threads);
  return py::make_tuple(copied(result.values), vectors, copied(result.residuals), result.products, result.norm);
}

py::tuple hessian_lanczos(const DoubleBinding& binding, py::handle W, py::handle H, py::handle b, py::handle start,
                          Index steps, bool store, bool features_only, int threads) {
  const auto p = binding.finite_point(W, H, b);
  const Problem<double>& problem = binding.problem();
  const Index n = binding.size(), begin = problem.K * problem.d, end = begin + problem.M * problem.d;
  const double* data = array_argument<double>(start, "start", {n});
  std::vector<double> vector(data, data + n), diagonal, off_diagonal;
  run_released(threads, [&](const Execution& e) {
    const auto op = double_core().hessian_operator(problem, p, store, false, e);
    double_core().lanczos(
        [&](const double* x, double* y) {
          op->apply(MatrixView<const double>(x, 1, n), MatrixView<double>(y, 1, n), e);
          if (!features_only) return;
          std::fill(y, y + begin, 0.0);
          std::fill(y + end, y + n, 0.0);
        },
        vector.data(), n, steps, diagonal, off_diagonal, e);
  });
  return py::make_tuple(copied(diagonal), copied(off_diagonal));
}

}  // namespace

void bind_spectra(py::module_& module) {
  using py::arg;
  module.def("hessian_eigenpairs", &hessian_eigenpairs, arg("problem"), arg("W"), arg("H"), arg("b"), arg("start"),
             arg("count"), arg("guards"), arg("basis"), arg("tolerance"), arg("max_products"), arg("store"),
             arg("deflate"), arg("threads"));
  module.def("gradient_eigenpairs", &gradient_eigenpairs, arg("problem"), arg("W"), arg("H"), arg("b"), arg("deflated"),
             arg("start"), arg("count"), arg("guards"), arg("basis"), arg("tolerance"), arg("max_products"),
             arg("store"), arg("threads"));
  module.def("leading_eigenpairs", &leading_eigenpairs, arg("matrix"), arg("start"), arg("count"), arg("basis"),
             arg("tolerance"), arg("max_products"), arg("threads"));
  module.def("hessian_lanczos", &hessian_lanczos, arg("problem"), arg("W"), arg("H"), arg("b"), arg("start"),
             arg("steps"), arg("store"), arg("features_only"), arg("threads"));
}

}  // namespace ufm_fast::bindings
