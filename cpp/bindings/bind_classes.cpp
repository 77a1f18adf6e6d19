#include "bind_classes.hpp"

#include "bind_problem.hpp"

namespace ufm_fast::bindings {

namespace {

/// The arrays of one call: a block of classes, and points of its problem.
template <class T>
struct BlockArguments {
  const Problem<T>& problem;
  ClassBlock<T> block;

  BlockArguments(const ProblemBinding<T>& binding, py::handle labels)
      : problem(binding.problem()), block{problem, array_argument<Index>(labels, "labels", {problem.M})} {}

  const T* rows(py::handle array, const char* name) const { return array_argument<T>(array, name, {problem.M}); }

  /// A number a row: `count` arrays of them, one after another.
  py::array_t<T> results(Index count) const { return new_array<T>({count, problem.M}); }
};

/// The gradient of a block, or another point of its problem.
template <class T>
struct BlockPoint {
  py::array_t<T> W, H, b;

  explicit BlockPoint(const Problem<T>& problem)
      : W(new_array<T>({problem.K, problem.d})),
        H(new_array<T>({problem.M, problem.d})),
        b(new_array<T>({problem.biases()})) {}

  PointView<T> view() {
    return {{W.mutable_data(), W.shape(0), W.shape(1)}, {H.mutable_data(), H.shape(0), H.shape(1)}, b.mutable_data()};
  }
};

/// (3, M): others, label_logits and logit_sums of class_logits.
template <class T>
py::array_t<T> logits_of(const ProblemBinding<T>& binding, py::handle labels, py::handle W, py::handle H, py::handle b,
                         int threads) {
  const BlockArguments<T> arguments(binding, labels);
  const PointView<const T> p = binding.finite_point(W, H, b);
  py::array_t<T> out = arguments.results(3);
  T* const data = out.mutable_data();
  const Index M = arguments.problem.M;
  run_released(threads, [&](const Execution& e) {
    core<T>().class_logits(arguments.block, p, data, data + M, data + 2 * M, e);
  });
  return out;
}

/// (terms of the decays, W, H, b), infinite if the gradient overflows.
template <class T>
py::tuple gradient_of(const ProblemBinding<T>& binding, py::handle labels, py::handle logsumexps, py::handle residuals,
                      T smoothing, Index classes, py::handle W, py::handle H, py::handle b, int threads) {
  const BlockArguments<T> arguments(binding, labels);
  const ClassSums<T> sums{arguments.rows(logsumexps, "logsumexps"), arguments.rows(residuals, "residuals"), smoothing,
                          classes};
  const PointView<const T> p = binding.finite_point(W, H, b);
  BlockPoint<T> out(arguments.problem);
  const PointView<T> view = out.view();
  const double value = run_released(
      threads, [&](const Execution& e) { return core<T>().class_gradient(arguments.block, sums, p, view, e); });
  return py::make_tuple(value, out.W, out.H, out.b);
}

/// (2, M): moves and label_moves of class_moves.
template <class T>
py::array_t<T> moves_of(const ProblemBinding<T>& binding, py::handle labels, py::handle logsumexps, py::handle W,
                        py::handle H, py::handle b, py::handle V_W, py::handle V_H, py::handle V_b, int threads) {
  const BlockArguments<T> arguments(binding, labels);
  const T* at = arguments.rows(logsumexps, "logsumexps");
  const PointView<const T> p = binding.finite_point(W, H, b), v = binding.finite_point(V_W, V_H, V_b);
  py::array_t<T> out = arguments.results(2);
  T* const data = out.mutable_data();
  run_released(threads, [&](const Execution& e) {
    core<T>().class_moves(arguments.block, at, p, v, data, data + arguments.problem.M, e);
  });
  return out;
}

/// (whether all is finite, W, H, b).
template <class T>
py::tuple product_of(const ProblemBinding<T>& binding, py::handle labels, py::handle logsumexps, py::handle residuals,
                     T smoothing, Index classes, py::handle W, py::handle H, py::handle b, py::handle V_W,
                     py::handle V_H, py::handle V_b, py::handle means, py::handle curvatures, int threads) {
  const BlockArguments<T> arguments(binding, labels);
  const ClassSums<T> sums{arguments.rows(logsumexps, "logsumexps"), arguments.rows(residuals, "residuals"), smoothing,
                          classes};
  const T *mean = arguments.rows(means, "means"), *curvature = arguments.rows(curvatures, "curvatures");
  const PointView<const T> p = binding.finite_point(W, H, b), v = binding.finite_point(V_W, V_H, V_b);
  BlockPoint<T> out(arguments.problem);
  const PointView<T> view = out.view();
  const bool finite = run_released(threads, [&](const Execution& e) {
    return core<T>().class_product(arguments.block, sums, p, v, mean, curvature, view, e);
  });
  return py::make_tuple(finite, out.W, out.H, out.b);
}

template <class T>
void bind(py::module_& module) {
  using py::arg;
  module.def("class_logits", &logits_of<T>, arg("problem"), arg("labels"), arg("W"), arg("H"), arg("b"),
             arg("threads"));
  module.def("class_gradient", &gradient_of<T>, arg("problem"), arg("labels"), arg("logsumexps"), arg("residuals"),
             arg("smoothing"), arg("classes"), arg("W"), arg("H"), arg("b"), arg("threads"));
  module.def("class_moves", &moves_of<T>, arg("problem"), arg("labels"), arg("logsumexps"), arg("W"), arg("H"),
             arg("b"), arg("V_W"), arg("V_H"), arg("V_b"), arg("threads"));
  module.def("class_product", &product_of<T>, arg("problem"), arg("labels"), arg("logsumexps"), arg("residuals"),
             arg("smoothing"), arg("classes"), arg("W"), arg("H"), arg("b"), arg("V_W"), arg("V_H"), arg("V_b"),
             arg("means"), arg("curvatures"), arg("threads"));
}

}  // namespace

void bind_classes(py::module_& module) {
  bind<double>(module);
  bind<float>(module);
}

}  // namespace ufm_fast::bindings
