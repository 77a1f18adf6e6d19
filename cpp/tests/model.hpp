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

/// What the plain algebra is of: squared error, or cross-entropy with this label smoothing.
struct PlainLoss {
  bool squares;
  double smoothing;
};

/// The same model in plain algebra, in double.
class Plain {
 public:
  template <class T>
  Plain(const Model<T>& model, const Arrays<T>& p, PlainLoss loss)
      : K_(model.problem.K),
        squares_(loss.squares),
        bias_(model.problem.bias),
        lambda_W_(double(model.problem.lambda_W)),
        lambda_b_(double(model.problem.lambda_b)),
        W_(p.W.template cast<double>()),
        H_(p.H.template cast<double>()),
        b_(p.b.template cast<double>()) {
    const auto column = [](const std::vector<T>& x) {
      return Wide(Eigen::Map<const Dense<T>>(x.data(), Index(x.size()), 1).template cast<double>());
    };
    weights_ = column(model.problem.weights);
    scales_ = column(model.problem.scales);
    ridges_ = column(model.problem.ridges);
    Dense<T> targets(H_.rows(), K_);
    for (Index m = 0; m < H_.rows(); ++m) model.problem.targets->write_row(m, targets.row(m).data());
    targets_ = (1 - loss.smoothing) * targets.template cast<double>().array() + loss.smoothing / double(K_);
    Z_ = logits(H_ * W_.transpose(), b_);
    P_ = squares_ ? Z_ : softmax(Z_);
    G_ = weights_.asDiagonal() * (P_ - targets_);
  }

  const Wide& targets() const { return targets_; }
  const Wide& weights() const { return weights_; }
  const Wide& scales() const { return scales_; }

  double loss() const {
    double data = 0;
    for (Index m = 0; m < Z_.rows(); ++m) {
      const double top = Z_.row(m).maxCoeff();
      const double l = squares_
                           ? 0.5 * (Z_.row(m) - targets_.row(m)).squaredNorm()
                           : top + std::log((Z_.row(m).array() - top).exp().sum()) - Z_.row(m).dot(targets_.row(m));
      data += weights_(m, 0) * l + ridges_(m, 0) / 2 * H_.row(m).squaredNorm();
    }
    return data + lambda_W_ / 2 * W_.squaredNorm() + (bias_ ? lambda_b_ / 2 * b_.squaredNorm() : 0.0);
  }

  Arrays<double> gradient() const {
    const Wide G = scales_.asDiagonal() * G_;
    return {G.transpose() * H_ + lambda_W_ * W_, G * W_ + ridges_.asDiagonal() * H_, bias_part(G_, b_)};
  }

  template <class T>
  Arrays<double> hessian_product(const Arrays<T>& direction) const {
    const Wide V_W = direction.W.template cast<double>(), V_H = direction.H.template cast<double>();
    const Wide v_b = direction.b.template cast<double>();
    Wide dP = logits(H_ * V_W.transpose() + V_H * W_.transpose(), v_b);
    if (!squares_) {
      for (Index m = 0; m < dP.rows(); ++m) dP.row(m).array() -= P_.row(m).dot(dP.row(m));
      dP = P_.cwiseProduct(dP).eval();
    }
    const Wide plain = weights_.asDiagonal() * dP, dG = scales_.asDiagonal() * plain, G = scales_.asDiagonal() * G_;
    return {dG.transpose() * H_ + G.transpose() * V_H + lambda_W_ * V_W, dG * W_ + G * V_W + ridges_.asDiagonal() * V_H,
            bias_part(plain, v_b)};
  }

 private:
  Index K_;
  bool squares_, bias_;
  double lambda_W_, lambda_b_;
  Wide W_, H_, b_, weights_, scales_, ridges_, targets_, Z_, P_, G_;

  Wide logits(const Wide& scores, const Wide& b) const {
    Wide Z = scales_.asDiagonal() * scores;
    if (bias_) Z.rowwise() += b.row(0);
    return Z;
  }

  static Wide softmax(const Wide& Z) {
    Wide P = (Z.colwise() - Z.rowwise().maxCoeff()).array().exp();
    for (Index m = 0; m < P.rows(); ++m) P.row(m) /= P.row(m).sum();
    return P;
  }

  Wide bias_part(const Wide& rows, const Wide& b) const {
    return bias_ ? Wide(rows.colwise().sum() + lambda_b_ * b) : Wide(Wide::Zero(1, K_));
  }
};

}  // namespace ufm_fast::tests
