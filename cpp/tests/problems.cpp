// Problems and points as an embedder makes them, against those of which every part is given.
#include "compare.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

/// The parts of make_problem's formula, one by one.
template <class T>
Problem<T> by_hand(const LossPointer<T>& loss, Index d, std::vector<Index> labels, bool bias) {
  Problem<T> problem;
  problem.loss = loss;
  problem.K = loss->K();
  problem.d = d;
  problem.bias = bias;
  problem.lambda_W = T(0.02);
  problem.lambda_b = T(0.03);
  problem.set_targets(Targets<T>::of_labels(problem.K, std::move(labels)));
  for (Index m = 0; m < problem.M; ++m) {
    problem.weights.push_back(T(double(m + 1) * (2 + double(m)) / 21));
    problem.scales.push_back(1);
    problem.ridges.push_back(T(0.01 * double(m + 1)));
  }
  return problem;
}

template <class T>
void compare_points(bool bias, double tolerance) {
  const std::vector<Index> labels{3, 0, 0, 4, 2, 1};
  const LossPointer<T> entropy = make_loss<T>("cross_entropy", 5);
  const Problem<T> expected = by_hand(entropy, 3, labels, bias);
  const Problem<T> problem = make_problem(entropy, 3, Targets<T>::of_labels(5, labels), {0.02, 0.01, 0.03, bias},
                                          {{1, 2, 3, 4, 5, 6}, {2, 3, 4, 5, 6, 7}});
  std::vector<T> x, v, gradient(std::size_t(problem.size())), product(gradient);
  for (Index i = 0; i < problem.size(); ++i) {
    x.push_back(T(std::sin(double(i))));
    v.push_back(T(std::cos(double(i))));
  }
  check(problem.size() == (5 + 6) * 3 + (bias ? 5 : 0), "size of a packed point");
  const double value = loss_and_gradient(problem, problem.point(x), problem.point(gradient));
  hessian_product(problem, problem.point(x), problem.point(v), problem.point(product));

  Arrays<T> p{Dense<T>(5, 3), Dense<T>(6, 3), Dense<T>::Zero(1, 5)};
  std::copy_n(x.data(), 15, p.W.data());
  std::copy_n(x.data() + 15, 18, p.H.data());
  if (bias) std::copy_n(x.data() + 33, 5, p.b.data());
  Arrays<T> expected_gradient = p;
  check_close(value, loss_and_gradient(expected, p.view(), expected_gradient.view()), tolerance, "loss");
  check_close(loss(problem, problem.point(x)), value, tolerance, "loss alone");
  std::vector<T> packed(expected_gradient.W.data(), expected_gradient.W.data() + 15);
  packed.insert(packed.end(), expected_gradient.H.data(), expected_gradient.H.data() + 18);
  if (bias) packed.insert(packed.end(), expected_gradient.b.data(), expected_gradient.b.data() + 5);
  double slope = 0, expected_slope = 0, moved = 0;
  const auto shifted = [&](double step) {
    std::vector<T> y(x), to(x.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += T(step) * v[i];
    loss_and_gradient(problem, problem.point(y), problem.point(to));
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += double(to[i]) * double(v[i]);
    return sum;
  };
  for (std::size_t i = 0; i < x.size(); ++i) {
    slope += double(gradient[i]) * double(v[i]);
    expected_slope += double(packed[i]) * double(v[i]);
    moved += double(product[i]) * double(v[i]);
  }
  check_close(slope, expected_slope, tolerance, "gradient along a direction");
  const double step = tolerance < 1e-6 ? 1e-5 : 1e-2;
  check_close(moved, (shifted(step) - shifted(-step)) / (2 * step), tolerance < 1e-6 ? 1e-8 : 1e-2,
              "curvature along it");

  std::vector<T> shorter(x.begin(), x.end() - 1);
  try {
    problem.point(shorter);
    check(false, "a vector of another length is refused");
  } catch (const std::invalid_argument&) {
  }
}

void check_refused(const char* message, const RowCounts& rows, const Decays& decays = {1e-3, 1e-3}) {
  try {
    make_problem(make_loss<double>("mse", 3), 2, Targets<double>::of_labels(3, {0, 1, 2}), decays, rows);
    check(false, message);
  } catch (const std::invalid_argument& error) {
    check(std::string(error.what()).find(message) != std::string::npos, error.what());
  }
}

}  // namespace

int main() {
  for (const bool bias : {true, false}) {
    compare_points<double>(bias, 1e-14);
    compare_points<float>(bias, 1e-5);
  }
  check_refused("samples must be M = 3 numbers or none, not 2", {{1, 2}});
  check_refused("samples must be positive, not 0", {{1, 0, 2}});
  check_refused("weights must be finite, but number 1 is nan", {{}, {1, NAN, 1}});
  check_refused("ridges must be M = 3 numbers or none, not 1", {{}, {}, {1}});
  check_refused("ridges must be finite and at least 0", {{}, {}, {1, -1, 1}});
  check_refused("lambda_H must be finite and at least 0", {}, {1e-3, -1});
  check_refused("lambda_W must be finite and at least 0", {}, {INFINITY, 1e-3});
  return failures();
}
