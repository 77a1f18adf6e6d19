#pragma once

#include <string>

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

/// Loss, gradient and Hessian product at p against differences of the loss.
inline void compare_with_differences(const Model<double>& model, Arrays<double> p, const std::string& name) {
  const Execution execution{2, {}};
  const Arrays<double> u = model.random_point(3);
  Arrays<double> v = model.random_point(2), gradient = model.zeros(), product = model.zeros();
  const double value = loss_and_gradient<double>(model.problem, p.view(), gradient.view(), execution);
  hessian_products<double>(model.problem, p.view(), {v.view()}, {nullptr, 0, 0}, {product.view()}, execution);
  const auto loss_at = [&](double step) {
    Arrays<double> q = moved(p, step, u);
    return loss<double>(model.problem, q.view(), execution);
  };
  const auto slope_at = [&](double step) {
    Arrays<double> q = moved(p, step, v), slope = model.zeros();
    loss_and_gradient<double>(model.problem, q.view(), slope.view(), execution);
    return dot(slope, u);
  };
  check_close(value, loss_at(0), 1e-14, name.c_str());
  check_close(dot(gradient, u), derivative(loss_at), 1e-9, ("gradient of the " + name).c_str());
  check_close(dot(product, u), derivative(slope_at), 1e-9, ("Hessian product of the " + name).c_str());
}

}  // namespace ufm_fast::tests
