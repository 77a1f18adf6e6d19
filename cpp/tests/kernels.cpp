// Loss, gradient and Hessian product at shapes that cut blocks, panels and tiles in every way, against dense algebra.
#include <ufm_fast/ufm_fast.hpp>

#include "checks.hpp"
#include "model.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

template <class T>
void compare(const Shape& shape, const Loss<T>& loss, bool bias, int threads, double tolerance) {
  const Model<T> model(shape, loss, bias);
  Arrays<T> p = model.random_point(1), v = model.random_point(2), gradient = model.zeros(), product = model.zeros();
  const Execution execution{threads, {}};
  const double value = loss_and_gradient<T>(model.problem, p.view(), gradient.view(), execution);
  hessian_products<T>(model.problem, p.view(), {v.view()}, {nullptr, 0, 0}, {product.view()}, execution);

  const Plain plain(model, p);
  check_close(value, plain.loss(), tolerance, "loss");
  check_close(ufm_fast::loss<T>(model.problem, p.view(), execution), plain.loss(), tolerance, "loss alone");
  check_close(gradient, plain.gradient(), tolerance, "gradient");
  check_close(product, plain.hessian_product(v), tolerance, "Hessian product");
}

template <class T>
void compare_all(double tolerance) {
  const Shape shapes[] = {{33, 33, 1},  {50, 50, 50}, {65, 17, 7},  {47, 97, 12},   {130, 9, 25}, {25, 129, 31},
                          {64, 64, 64}, {270, 5, 13}, {5, 270, 13}, {515, 3, 9},    {3, 515, 9},  {1040, 2, 5},
                          {2, 1040, 5}, {37, 401, 6}, {401, 37, 6}, {33, 32, 1601}, {32, 33, 790}};
  for (const Shape& shape : shapes) {
    compare<T>(shape, CrossEntropy<T>{shape.K, T(0)}, true, 2, tolerance);
    compare<T>(shape, CrossEntropy<T>{shape.K, T(0.125)}, false, 1, tolerance);
    compare<T>(shape, SquaredError<T>{shape.K}, true, 1, tolerance);
  }
}

}  // namespace

int main() {
  compare_all<double>(1e-12);
  compare_all<float>(2e-4);
  return ufm_fast::tests::failures();
}
