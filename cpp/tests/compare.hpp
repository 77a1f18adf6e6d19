#pragma once

#include <ufm_fast/ufm_fast.hpp>

#include "checks.hpp"
#include "drivers.hpp"
#include "plain.hpp"

namespace ufm_fast::tests {

template <class T>
LossPointer<T> core_loss(PlainLoss loss, Index K) {
  if (loss.squares) return make_loss<T>("mse", K, {});
  return make_loss<T>("cross_entropy", K, {{"label_smoothing", loss.smoothing}});
}

/// What the core computes at one point, with v and, if it is not given, p drawn from fixed seeds.
template <class T>
struct Evaluation {
  Arrays<T> p, v, gradient, product;
  double value;

  Evaluation(const Model<T>& model, int threads) : Evaluation(model, model.random_point(1), threads) {}

  Evaluation(const Model<T>& model, const Arrays<T>& point, int threads)
      : p(point), v(model.random_point(2)), gradient(model.zeros()), product(model.zeros()) {
    const Execution execution{threads, {}};
    value = loss_and_gradient(model.problem, p.view(), gradient.view(), execution);
    hessian_product(model.problem, p.view(), v.view(), product.view(), execution);
  }
};

/// Loss, gradient and Hessian product against plain algebra.
template <class T>
void compare_with_plain(const Model<T>& model, PlainLoss plain_loss, int threads, double tolerance) {
  Evaluation<T> core(model, threads);
  const Plain plain(model, core.p, plain_loss);
  check_close(core.value, plain.loss(), tolerance, "loss");
  check_close(loss(model.problem, core.p.view(), Execution{threads, {}}), plain.loss(), tolerance, "loss alone");
  check_close(core.gradient, plain.gradient(), tolerance, "gradient");
  check_close(core.product, plain.hessian_product(wide(core.v)), tolerance, "Hessian product");
}

}  // namespace ufm_fast::tests
