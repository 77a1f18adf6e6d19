#pragma once

#include "compare.hpp"

namespace ufm_fast::tests {

inline double dot(const Arrays<double>& x, const Arrays<double>& y) {
  return x.W.cwiseProduct(y.W).sum() + x.H.cwiseProduct(y.H).sum() + x.b.cwiseProduct(y.b).sum();
}

inline Arrays<double> moved(const Arrays<double>& p, double step, const Arrays<double>& v) {
  return {p.W + step * v.W, p.H + step * v.H, p.b + step * v.b};
}

/// The derivative of f(step) at zero, to the sixth order in the step.
template <class Function>
double derivative(Function&& f) {
  const double h = 1e-2;
  const auto odd = [&](double step) { return f(step) - f(-step); };
  return (45 * odd(h) - 9 * odd(2 * h) + odd(3 * h)) / (60 * h);
}

/// Gradient and Hessian product at a point against differences of loss and gradient.
inline void compare_with_differences(const Model<double>& model, const Arrays<double>& p, double tolerance) {
  const Execution execution{2, {}};
  const Evaluation<double> core(model, p, 2);
  const Arrays<double> u = model.random_point(3);
  const auto loss_at = [&](double step) {
    Arrays<double> q = moved(core.p, step, u);
    return loss(model.problem, q.view(), execution);
  };
  const auto slope_at = [&](double step) {
    Arrays<double> q = moved(core.p, step, core.v), gradient = model.zeros();
    loss_and_gradient(model.problem, q.view(), gradient.view(), execution);
    return dot(gradient, u);
  };
  check_close(core.value, loss_at(0), 1e-14, "loss alone");
  check_close(dot(core.gradient, u), derivative(loss_at), tolerance, "gradient");
  check_close(dot(core.product, u), derivative(slope_at), tolerance, "Hessian product");
}

inline void compare_with_differences(const Model<double>& model, double tolerance) {
  compare_with_differences(model, model.random_point(1), tolerance);
}

}  // namespace ufm_fast::tests
