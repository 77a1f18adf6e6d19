#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>

#include "arrays.hpp"
#include "loaded.hpp"
#include "not_finite.hpp"
#include "released.hpp"
#include "targets.hpp"

namespace ufm_fast::bindings {

/// A Problem and the checks that stand between Python's arrays and the core: everything is checked before the GIL is
/// released, and a result that is not finite becomes an exception.
template <class T>
class ProblemBinding {
 public:
  ProblemBinding(Index K, Index d, py::handle targets, py::handle weights, py::handle scales, py::handle ridges,
                 const std::string& loss, const LossParameters& parameters, T lambda_W, T lambda_b, bool bias)
      : d_(d) {
    problem_.loss = core<T>().make_loss(loss, K, parameters);
    problem_.d = d;
    problem_.lambda_W = lambda_W;
    problem_.lambda_b = lambda_b;
    problem_.bias = bias;
    K_ = problem_.K = problem_.loss->K();
    biases_ = problem_.biases();
    problem_.set_targets(targets_argument<T>(targets, K));
    problem_.weights = numbers(weights, "weights", problem_.M);
    problem_.scales = numbers(scales, "scales", problem_.M);
    problem_.ridges = numbers(ridges, "ridges", problem_.M);
    problem_.validate();
  }

  double loss(py::handle W, py::handle H, py::handle b, int threads) const {
    return value_at(
        point(W, H, b), [&](const Execution& e, auto p) { return core<T>().loss(problem_, p, e); }, threads);
  }

  double flat_loss(py::handle x, int threads) const {
    return value_at(
        flat_point(x, "x"), [&](const Execution& e, auto p) { return core<T>().loss(problem_, p, e); }, threads);
  }

  py::tuple loss_and_grad(py::handle W, py::handle H, py::handle b, int threads) const {
    Output out(*this);
    const double value = gradient_at(point(W, H, b), out.view(), threads);
    return py::make_tuple(value, out.W(), out.H(), out.b());
  }

  /// Writes the gradient to arrays that are given, and what is known of each row to those that are not None.
  double loss_and_grad_into(py::handle W, py::handle H, py::handle b, py::handle grad_W, py::handle grad_H,
                            py::handle grad_b, py::handle losses, py::handle logsumexps, int threads) const {
    const auto of_rows = [this](py::handle array, const char* name) {
      return array.is_none() ? nullptr : output_argument<T>(array, name, {problem_.M});
    };
    const RowValues<T> rows{of_rows(losses, "losses"), of_rows(logsumexps, "logsumexps")};
    const PointView<T> gradient{{output_argument<T>(grad_W, "out[0]", {K_, d_}), K_, d_},
                                {output_argument<T>(grad_H, "out[1]", {problem_.M, d_}), problem_.M, d_},
                                output_argument<T>(grad_b, "out[2]", {biases_})};
    return value_at(
        point(W, H, b),
        [&](const Execution& e, auto p) { return core<T>().loss_and_gradient(problem_, p, gradient, e, rows); },
        threads);
  }

  py::tuple flat_loss_and_grad(py::handle x, int threads) const {
    py::array_t<T> out = new_array<T>({size()});
    const double value = gradient_at(flat_point(x, "x"), problem_.point(out.mutable_data()), threads);
    return py::make_tuple(value, std::move(out));
  }

  py::tuple hvp(py::handle W, py::handle H, py::handle b, py::handle V_W, py::handle V_H, py::handle V_b,
                int threads) const {
    Output out(*this);
    products_at(point(W, H, b), {point(V_W, V_H, V_b, "v.")}, nullptr, {out.view()}, threads);
    return py::make_tuple(out.W(), out.H(), out.b());
  }

  py::array_t<T> flat_hvp(py::handle x, py::handle v, int threads) const {
    py::array_t<T> out = new_array<T>({size()});
    flat_products_at(x, array_argument<T>(v, "v", {size()}), 1, nullptr, out.mutable_data(), threads);
    return out;
  }

  /// V (size, count), contiguous in either order: a flat direction a column. The products are rows.
  py::array_t<T> flat_hvps(py::handle x, const py::array& V, const py::object& states, int threads) const {
    const Index count = V.ndim() == 2 ? V.shape(1) : 1;
    const T* states_data =
        states.is_none() ? nullptr : array_argument<T>(states, "states", {problem_.M, problem_.loss->states()});
    py::array_t<T> out = new_array<T>({count, size()});
    if ((V.flags() & py::array::f_style) != 0) {
      const T* directions = array_argument<T>(V.attr("T"), "the transpose of V", {count, size()});
      flat_products_at(x, directions, count, states_data, out.mutable_data(), threads);
    } else {
      const MatrixView<const T> columns = matrix_argument<T>(V, "V", size(), count);
      py::array_t<T> directions = new_array<T>({count, size()});
      const MatrixView<T> rows(directions.mutable_data(), count, size());
      released(threads, [&](const Execution& e) { core<T>().parallel_transpose(columns, rows, e); });
      flat_products_at(x, rows.data, count, states_data, out.mutable_data(), threads);
    }
    return out;
  }

  py::array_t<T> row_states(py::handle W, py::handle H, py::handle b, int threads) const {
    const Index numbers = problem_.loss->states();
    py::array_t<T> states = new_array<T>({problem_.M, numbers});
    const MatrixView<T> matrix(states.mutable_data(), problem_.M, numbers);
    const auto p = point(W, H, b);
    released(threads, [&](const Execution& e) { core<T>().row_states(problem_, p, matrix, e); });
    return states;
  }

  py::array_t<T> gradient_matrix(py::handle W, py::handle H, py::handle b, int threads) const {
    py::array_t<T> G = new_array<T>({problem_.M, K_});
    const MatrixView<T> matrix(G.mutable_data(), problem_.M, K_);
    const auto p = point(W, H, b);
    released(threads, [&](const Execution& e) { core<T>().gradient_matrix(problem_, p, matrix, e); });
    return G;
  }

  py::array_t<T> gradient_gram(py::handle W, py::handle H, py::handle b, int threads) const {
    py::array_t<T> gram = new_array<T>({K_, K_});
    const MatrixView<T> matrix(gram.mutable_data(), K_, K_);
    const auto p = point(W, H, b);
    released(threads, [&](const Execution& e) { core<T>().gradient_gram(problem_, p, matrix, e); });
    return gram;
  }

  py::array_t<T> gradient_product(py::handle W, py::handle H, py::handle b, const py::array& X, int threads) const {
    const Index columns = X.ndim() == 2 ? X.shape(1) : 1;
    const MatrixView<const T> right = matrix_argument<T>(X, "X", K_, columns);
    py::array_t<T> out = new_array<T>({problem_.M, columns});
    const MatrixView<T> matrix(out.mutable_data(), problem_.M, columns);
    const auto p = point(W, H, b);
    released(threads, [&](const Execution& e) { core<T>().gradient_product(problem_, p, right, matrix, e); });
    return out;
  }

  py::tuple data_term(py::handle Z, py::handle b, int threads) const {
    const MatrixView<const T> scores = matrix_argument<T>(Z, "Z", problem_.M, K_);
    const T* bias = bias_argument(b, "b");
    py::array_t<T> G = new_array<T>({problem_.M, K_}), grad_b = new_array<T>({biases_});
    const MatrixView<T> matrix(G.mutable_data(), problem_.M, K_);
    T* sum = grad_b.mutable_data();
    const double value = released(
        threads, [&](const Execution& e) { return core<T>().data_term(problem_, scores, bias, matrix, sum, e); });
    if (!std::isfinite(value)) {
      require_finite(scores.data, problem_.M * K_, "Z");
      overflow("the data term");
    }
    return py::make_tuple(value, std::move(G), std::move(grad_b));
  }

  /// (loss, G, gradient): the gradient is flat, W, H, b in C order, always with a b. W and H may have any number of
  /// columns.
  py::tuple gradient_at_scores(const py::array& W, py::handle H, py::handle b, py::handle Z, int threads) const {
    const Index M = problem_.M, columns = W.ndim() == 2 ? W.shape(1) : d_;
    Problem<T> problem = problem_;
    problem.d = columns;
    const PointView<const T> p{matrix_argument<T>(W, "W", K_, columns), matrix_argument<T>(H, "H", M, columns),
                               bias_argument(b, "b")};
    const MatrixView<const T> scores = matrix_argument<T>(Z, "Z", M, K_);
    py::array_t<T> G = new_array<T>({M, K_}), gradient = new_array<T>({(K_ + M) * columns + biases_});
    const MatrixView<T> matrix(G.mutable_data(), M, K_);
    T* const out = gradient.mutable_data();
    const PointView<T> view{{out, K_, columns}, {out + K_ * columns, M, columns}, out + (K_ + M) * columns};
    const double value = released(
        threads, [&](const Execution& e) { return core<T>().gradient_at_scores(problem, p, scores, matrix, view, e); });
    if (!std::isfinite(value)) overflow("the loss or its gradient");
    return py::make_tuple(value, std::move(G), std::move(gradient));
  }

  const Problem<T>& problem() const { return problem_; }

  /// Length of a flat point.
  Index size() const { return problem_.size(); }

  PointView<const T> finite_point(py::handle W, py::handle H, py::handle b) const {
    const PointView<const T> p = point(W, H, b);
    require_finite(p);
    return p;
  }

 private:
  Index K_, d_, biases_;
  Problem<T> problem_;

  static std::vector<T> numbers(py::handle argument, const char* name, Index size) {
    const T* data = array_argument<T>(argument, name, {size});
    return std::vector<T>(data, data + size);
  }

  Index size_W() const { return K_ * d_; }
  Index size_H() const { return problem_.M * d_; }
  Index bias_size() const { return problem_.bias ? biases_ : 0; }

  /// A new point of this problem in one allocation, always with a b.
  struct Output {
    explicit Output(const ProblemBinding& owner)
        : owner(owner), array(new_array<T>({owner.size_W() + owner.size_H() + owner.biases_})) {}

    PointView<T> view() {
      T* data = array.mutable_data();
      return {{data, owner.K_, owner.d_},
              {data + owner.size_W(), owner.problem_.M, owner.d_},
              data + owner.size_W() + owner.size_H()};
    }
    py::array_t<T> W() { return part(0, {owner.K_, owner.d_}); }
    py::array_t<T> H() { return part(owner.size_W(), {owner.problem_.M, owner.d_}); }
    py::array_t<T> b() { return part(owner.size_W() + owner.size_H(), {owner.biases_}); }

    const ProblemBinding& owner;
    py::array_t<T> array;

   private:
    py::array_t<T> part(Index start, std::initializer_list<py::ssize_t> shape) {
      return py::array_t<T>(py::array::ShapeContainer(shape), array.data() + start, array);
    }
  };

  static void require_finite(const T* x, Index size, const std::string& name) {
    ufm_fast::require_finite(core<T>(), x, size, name);
  }

  [[noreturn]] void overflow(const char* what) const {
    py::set_error(PyExc_FloatingPointError, overflow_message(problem_, what).c_str());
    throw py::error_already_set();
  }

  const T* bias_argument(py::handle b, const std::string& name) const {
    const T* data = array_argument<T>(b, name.c_str(), {biases_});
    require_finite(data, biases_, name);
    if (!problem_.bias && (ConstVector<T>(data, biases_) != T(0)).any()) {
      throw py::value_error(name + " must be zeros in a model without bias");
    }
    return data;
  }

  PointView<const T> point(py::handle W, py::handle H, py::handle b, const std::string& prefix = "") const {
    return {matrix_argument<T>(W, (prefix + "W").c_str(), K_, d_),
            matrix_argument<T>(H, (prefix + "H").c_str(), problem_.M, d_), bias_argument(b, prefix + "b")};
  }

  PointView<const T> flat_point(py::handle x, const char* name) const {
    const T* data = array_argument<T>(x, name, {size()});
    require_finite(data + size_W() + size_H(), bias_size(), name);
    return problem_.point(data);
  }

  void require_finite(PointView<const T> p) const {
    require_finite(p.W.data, size_W(), "W");
    require_finite(p.H.data, size_H(), "H");
    require_finite(p.b, bias_size(), "b");
  }

  /// Runs one evaluation: small ones in place, others without the GIL.
  template <class Work>
  auto released(int threads, Work&& work) const {
    if (K_ * d_ <= small_product / problem_.M) return work(Execution{});
    return run_released(threads, work);
  }

  /// A NaN or infinity in W or H always reaches the ridge terms, and b has been checked: only a value that is not
  /// finite calls for a search.
  template <class Work>
  double value_at(PointView<const T> p, Work&& work, int threads) const {
    const double value = released(threads, [&](const Execution& e) { return work(e, p); });
    if (!std::isfinite(value)) {
      require_finite(p);
      overflow("the loss or its gradient");
    }
    return value;
  }

  double gradient_at(PointView<const T> p, PointView<T> gradient, int threads) const {
    return value_at(
        p,
        [&](const Execution& e, auto point) { return core<T>().loss_and_gradient(problem_, point, gradient, e, {}); },
        threads);
  }

  void flat_products_at(py::handle x, const T* directions, Index count, const T* states, T* out, int threads) const {
    std::vector<PointView<const T>> from;
    std::vector<PointView<T>> to;
    for (Index i = 0; i < count; ++i) {
      from.push_back(problem_.point(directions + i * size()));
      to.push_back(problem_.point(out + i * size()));
    }
    products_at(flat_point(x, "x"), from, states, to, threads);
  }

  void products_at(PointView<const T> p, const std::vector<PointView<const T>>& v, const T* states,
                   const std::vector<PointView<T>>& out, int threads) const {
    const MatrixView<const T> states_matrix(states, problem_.M, problem_.loss->states());
    if (released(threads, [&](const Execution& e) {
          return core<T>().hessian_products(problem_, p, v, states_matrix, out, e);
        })) {
      return;
    }
    require_finite(p);
    for (std::size_t i = 0; i < v.size(); ++i) {
      require_finite(v[i].W.data, size_W(), "v.W");
      require_finite(v[i].H.data, size_H(), "v.H");
      if (problem_.bias) require_finite(v[i].b, biases_, "v.b");
    }
    overflow("the Hessian product");
  }
};

using DoubleBinding = ProblemBinding<double>;

template <class T>
void bind_problem(py::module_& module, const char* name) {
  using Binding = ProblemBinding<T>;
  using py::arg;
  py::class_<Binding>(module, name, py::module_local())
      .def(py::init<Index, Index, py::handle, py::handle, py::handle, py::handle, const std::string&,
                    const LossParameters&, T, T, bool>(),
           arg("K"), arg("d"), arg("targets"), arg("weights"), arg("scales"), arg("ridges"), arg("loss"),
           arg("parameters"), arg("lambda_W"), arg("lambda_b"), arg("bias"))
      .def("loss", &Binding::loss, arg("W"), arg("H"), arg("b"), arg("threads"))
      .def("flat_loss", &Binding::flat_loss, arg("x"), arg("threads"))
      .def("loss_and_grad", &Binding::loss_and_grad, arg("W"), arg("H"), arg("b"), arg("threads"))
      .def("loss_and_grad_into", &Binding::loss_and_grad_into, arg("W"), arg("H"), arg("b"), arg("grad_W"),
           arg("grad_H"), arg("grad_b"), arg("losses"), arg("logsumexps"), arg("threads"))
      .def("flat_loss_and_grad", &Binding::flat_loss_and_grad, arg("x"), arg("threads"))
      .def("hvp", &Binding::hvp, arg("W"), arg("H"), arg("b"), arg("V_W"), arg("V_H"), arg("V_b"), arg("threads"))
      .def("flat_hvp", &Binding::flat_hvp, arg("x"), arg("v"), arg("threads"))
      .def("flat_hvps", &Binding::flat_hvps, arg("x"), arg("V"), arg("states"), arg("threads"))
      .def("row_states", &Binding::row_states, arg("W"), arg("H"), arg("b"), arg("threads"))
      .def("gradient_matrix", &Binding::gradient_matrix, arg("W"), arg("H"), arg("b"), arg("threads"))
      .def("gradient_gram", &Binding::gradient_gram, arg("W"), arg("H"), arg("b"), arg("threads"))
      .def("gradient_product", &Binding::gradient_product, arg("W"), arg("H"), arg("b"), arg("X"), arg("threads"))
      .def("data_term", &Binding::data_term, arg("Z"), arg("b"), arg("threads"))
      .def("gradient_at_scores", &Binding::gradient_at_scores, arg("W"), arg("H"), arg("b"), arg("Z"), arg("threads"));
}

}  // namespace ufm_fast::bindings
