#include "bind_passes.hpp"

#include <pybind11/stl.h>

#include "bind_problem.hpp"

namespace ufm_fast::bindings {

namespace {

std::vector<const double*> vectors_of(const py::sequence& list, const char* name, Index n) {
  std::vector<const double*> pointers;
  for (py::handle vector : list) pointers.push_back(array_argument<double>(vector, name, {n}));
  return pointers;
}

Array inner_products_of(const py::sequence& X, const py::sequence& Y, int threads) {
  if (py::len(X) == 0 || py::len(Y) == 0) throw py::value_error("X and Y must hold at least one vector each");
  const Index n = row_count<double>(py::object(X[0]), "X");
  const auto x = vectors_of(X, "X", n), y = vectors_of(Y, "Y", n);
  const std::vector<double> values =
      run_released(threads, [&](const Execution& e) { return double_core().inner_products(x, y, n, e); });
  Array out = new_array<double>({static_cast<py::ssize_t>(x.size()), static_cast<py::ssize_t>(y.size())});
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

Array combination(const std::vector<double>& coefficients, const py::sequence& X, int threads) {
  if (py::len(X) == 0 || py::len(X) != coefficients.size()) {
    throw py::value_error("X must hold at least one vector, and as many as there are coefficients");
  }
  const Index n = row_count<double>(py::object(X[0]), "X");
  const auto x = vectors_of(X, "X", n);
  Array out = new_array<double>({n});
  double* data = out.mutable_data();
  run_released(threads, [&](const Execution& e) { double_core().combine(coefficients, x, n, data, e); });
  return out;
}

/// A matrix, or one whose transpose is given, as a factor of a product.
struct Factor {
  Op op;
  MatrixView<const double> matrix;

  Factor(const py::array& array, const char* name) : Factor(array, name, transposed(array)) {}

  Index rows() const { return op == Op::none ? matrix.rows : matrix.cols; }
  Index cols() const { return op == Op::none ? matrix.cols : matrix.rows; }

 private:
  Factor(const py::array& array, const char* name, bool transposed)
      : op(transposed ? Op::transpose : Op::none), matrix(of(transposed ? array.attr("T") : array, name)) {}

  static bool transposed(const py::array& array) {
    return (array.flags() & py::array::f_style) != 0 && (array.flags() & py::array::c_style) == 0;
  }
  static MatrixView<const double> of(const py::array& array, const char* name) {
    if (array.ndim() != 2) throw py::value_error(std::string(name) + " must be a matrix");
    return matrix_argument<double>(array, name, array.shape(0), array.shape(1));
  }
};

/// X Y, in `out` if that is an array.
Array matrix_product(const py::array& X, const py::array& Y, int threads, const py::object& out) {
  const Factor x(X, "X"), y(Y, "Y");
  if (x.cols() != y.rows()) throw py::value_error("X must have as many columns as Y has rows");
  Array result;
  if (out.is_none()) {
    result = new_array<double>({x.rows(), y.cols()});
  } else {
    array_argument<double>(out, "out", {x.rows(), y.cols()});
    result = py::reinterpret_borrow<Array>(out);
  }
  const MatrixView<double> matrix(result.mutable_data(), x.rows(), y.cols());
  run_released(threads, [&](const Execution& e) {
    double_core().parallel_gemm(x.op, y.op, 1, x.matrix, y.matrix, 0, matrix, e);
  });
  return result;
}

Array gram_of(const py::array& X, int threads) {
  const MatrixView<const double> x =
      matrix_argument<double>(X, "X", X.ndim() == 2 ? X.shape(0) : 0, X.ndim() == 2 ? X.shape(1) : 0);
  Array out = new_array<double>({x.cols, x.cols});
  const MatrixView<double> matrix(out.mutable_data(), x.cols, x.cols);
  run_released(threads, [&](const Execution& e) { double_core().parallel_gram(x, matrix, e); });
  return out;
}

MatrixView<const double> square(const DoubleBinding& binding, py::handle matrix, const char* name) {
  return matrix_argument<double>(matrix, name, binding.problem().K, binding.problem().K);
}

py::tuple curvature_sums_of(const DoubleBinding& binding, py::handle G, int threads) {
  const Problem<double>& problem = binding.problem();
  const MatrixView<const double> matrix = matrix_argument<double>(G, "G", problem.M, problem.K);
  const auto sums =
      run_released(threads, [&](const Execution& e) { return double_core().curvature_sums(problem, matrix, e); });
  return py::make_tuple(sums.total, sums.at_anchors, sums.largest, copied(sums.bias), copied(sums.rows),
                        copied(sums.columns));
}

Array bias_curvature_product_of(const DoubleBinding& binding, py::handle G, py::handle v, int threads) {
  const Problem<double>& problem = binding.problem();
  const MatrixView<const double> matrix = matrix_argument<double>(G, "G", problem.M, problem.K);
  const double* direction = array_argument<double>(v, "v", {problem.K});
  Array out = new_array<double>({problem.K});
  double* data = out.mutable_data();
  run_released(threads,
               [&](const Execution& e) { double_core().bias_curvature_product(problem, matrix, direction, data, e); });
  return out;
}

/// Applies the metric of the point (A, B) to (X, Y). Each of these pairs, and the result, is the beginning of a vector:
/// (A, B) of `point`, (X, Y) of `gradient`, two matrices (K, columns) one after the other, of which the first K columns
/// are read. The rest of the result is zero.
Array pair_metric(const DoubleBinding& binding, py::handle G, py::handle point, py::handle e, py::handle o,
                  double least_curvature, py::handle gradient, Index columns, int threads) {
  const Problem<double>& problem = binding.problem();
  const Index K = problem.K, n = row_count<double>(gradient, "gradient");
  if (columns < K || columns > n / (2 * K)) {
    throw py::value_error("gradient must hold two matrices of at least K columns");
  }
  const MatrixView<const double> matrix = square(binding, G, "G");
  const Index half = K * columns;
  const double* at = array_argument<double>(point, "point", {n});
  const double* in = array_argument<double>(gradient, "gradient", {n});
  const double* e_data = array_argument<double>(e, "e", {K});
  const double* o_data = array_argument<double>(o, "o", {K});
  Array out = new_array<double>({n});
  double* data = out.mutable_data();
  std::fill(data + (columns > K ? 0 : 2 * half), data + n, 0.0);
  run_released(threads, [&](const Execution& execution) {
    std::vector<double> norms(static_cast<std::size_t>(2 * K));
    double_core().row_norms({at, 2 * K, columns}, norms.data(), execution);
    const PairMetric<double> metric{norms.data(), norms.data() + K, e_data, o_data, least_curvature};
    double_core().apply_metric(metric, problem, matrix, {in, K, K, columns}, {in + half, K, K, columns},
                               {data, K, K, columns}, {data + half, K, K, columns}, execution);
  });
  return out;
}

/// (rows, absolute_rows, least, least_above_margin, wrong, entropy, target_logarithms, own_target) with a number a row,
/// (received, absolute_received) with a number a class.
py::tuple dual_sums_of(const DoubleBinding& binding, py::handle Y, double margin, int threads) {
  const Problem<double>& problem = binding.problem();
  const MatrixView<const double> matrix = matrix_argument<double>(Y, "Y", problem.M, problem.K);
  const DualSums sums =
      run_released(threads, [&](const Execution& e) { return double_core().dual_sums(problem, matrix, margin, e); });
  return py::make_tuple(copied(sums.rows), copied(sums.absolute_rows), copied(sums.least),
                        copied(sums.least_above_margin), copied(sums.wrong), copied(sums.entropy),
                        copied(sums.target_logarithms), copied(sums.own_target), copied(sums.received),
                        copied(sums.absolute_received));
}

double curvature_along_of(const DoubleBinding& binding, py::handle G, py::handle dZ, int threads) {
  const Problem<double>& problem = binding.problem();
  const MatrixView<const double> matrix = matrix_argument<double>(G, "G", problem.M, problem.K);
  const MatrixView<const double> direction = matrix_argument<double>(dZ, "dZ", problem.M, problem.K);
  return run_released(threads,
                      [&](const Execution& e) { return double_core().curvature_along(problem, matrix, direction, e); });
}

/// (M, classes): what the logits of each row are compared with.
Array targets_of(const DoubleBinding& binding) {
  const Problem<double>& problem = binding.problem();
  const Index classes = problem.loss->classes();
  Array out = new_array<double>({problem.M, classes});
  double* data = out.mutable_data();
  for (Index m = 0; m < problem.M; ++m) problem.loss->write_target(*problem.targets, m, data + m * classes);
  return out;
}

/// An array whose memory is kept for the next like it, so that its pages need not be made anew.
template <class T>
py::array_t<T> empty_matrix(Index rows, Index columns) {
  return new_array<T>({rows, columns});
}

}  // namespace

void bind_passes(py::module_& module) {
  using py::arg;
  module.def("empty64", &empty_matrix<double>, arg("rows"), arg("columns"));
  module.def("empty32", &empty_matrix<float>, arg("rows"), arg("columns"));
  module.def("inner_products", &inner_products_of, arg("X"), arg("Y"), arg("threads"));
  module.def("matrix_product", &matrix_product, arg("X"), arg("Y"), arg("threads"), arg("out") = py::none());
  module.def("gram", &gram_of, arg("X"), arg("threads"));
  module.def("combination", &combination, arg("coefficients"), arg("X"), arg("threads"));
  module.def("curvature_sums", &curvature_sums_of, arg("problem"), arg("G"), arg("threads"));
  module.def("bias_curvature_product", &bias_curvature_product_of, arg("problem"), arg("G"), arg("v"), arg("threads"));
  module.def("pair_metric", &pair_metric, arg("problem"), arg("G"), arg("point"), arg("e"), arg("o"),
             arg("least_curvature"), arg("gradient"), arg("columns"), arg("threads"));
  module.def("dual_sums", &dual_sums_of, arg("problem"), arg("Y"), arg("margin"), arg("threads"));
  module.def("curvature_along", &curvature_along_of, arg("problem"), arg("G"), arg("dZ"), arg("threads"));
  module.def("targets", &targets_of, arg("problem"));
}

}  // namespace ufm_fast::bindings
