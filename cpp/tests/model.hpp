#pragma once

#include <Eigen/Core>
#include <random>
#include <ufm_fast/losses/registry.hpp>
#include <ufm_fast/model/problem.hpp>

#include "checks.hpp"

namespace ufm_fast::tests {

template <class T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Wide = Dense<double>;

struct Shape {
  Index K, d, M;
};

/// A point in arrays of its own.
template <class T>
struct Arrays {
  Dense<T> W, H, b;

  PointView<T> view() { return {{W.data(), W.rows(), W.cols()}, {H.data(), H.rows(), H.cols()}, b.data()}; }
};

inline double largest(const Wide& X) { return X.size() == 0 ? 0.0 : X.cwiseAbs().maxCoeff(); }

/// Whether each part agrees, relative to its largest entry.
template <class T>
void check_close(const Arrays<T>& found, const Arrays<double>& expected, double tolerance, const char* what) {
  const auto check_part = [&](const Dense<T>& x, const Wide& y) {
    check_close(1 + largest(x.template cast<double>() - y) / (largest(y) + 1e-300), 1, tolerance, what);
  };
  check_part(found.W, expected.W);
  check_part(found.H, expected.H);
  if (largest(expected.b) > 0) check_part(found.b, expected.b);
}

/// Labels that skip some classes.
template <class T>
Targets<T> some_labels(const Shape& shape) {
  std::vector<Index> labels;
  for (Index m = 0; m < shape.M; ++m) labels.push_back(7 * m % shape.K);
  return Targets<T>::of_labels(shape.K, labels);
}

/// A model with uneven weights, scales and ridges.
template <class T>
struct Model {
  Problem<T> problem;

  Model(const Shape& shape, LossPointer<T> loss, bool bias) : Model(shape, loss, bias, some_labels<T>(shape)) {}

  Model(const Shape& shape, LossPointer<T> loss, bool bias, Targets<T> targets)
      : problem{loss->K(), shape.d, shape.M, nullptr, {}, {}, {}, loss, T(0.02), T(0.03), bias} {
    loss->prepare(targets);
    problem.targets = std::make_shared<const Targets<T>>(std::move(targets));
    for (Index m = 0; m < shape.M; ++m) {
      problem.weights.push_back(T(double(1 + m % 3) / double(2 * shape.M)));
      problem.scales.push_back(T(1 + 0.25 * double(m % 2)));
      problem.ridges.push_back(T(0.01 * double(1 + m % 4)));
    }
  }

  Arrays<T> zeros() const {
    const Index K = problem.K, d = problem.d, M = problem.M;
    return {Dense<T>::Zero(K, d), Dense<T>::Zero(M, d), Dense<T>::Zero(1, problem.biases())};
  }

  Arrays<T> random_point(unsigned seed) const {
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    Arrays<T> p = zeros();
    const double scale = 1 / std::sqrt(double(problem.d));
    for (Dense<T>* x : {&p.W, &p.H, &p.b}) {
      if (x == &p.b && !problem.bias) continue;
      *x = Dense<T>::NullaryExpr(x->rows(), x->cols(), [&] { return T(scale * normal(generator)); });
    }
    return p;
  }
};

template <class T>
Arrays<double> wide(const Arrays<T>& x) {
  return {x.W.template cast<double>(), x.H.template cast<double>(), x.b.template cast<double>()};
}

}  // namespace ufm_fast::tests
