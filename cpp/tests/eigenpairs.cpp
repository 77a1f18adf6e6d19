// The eigen-solvers against dense decompositions.
#include <Eigen/Eigenvalues>
#include <ufm_fast/spectral/davidson.hpp>
#include <ufm_fast/spectral/gradient_operator.hpp>
#include <ufm_fast/spectral/hessian_operator.hpp>
#include <ufm_fast/spectral/symmetric_operator.hpp>

#include "drivers.hpp"
#include "plain.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

template <class T>
void compare(const LinearOperator<T>& op, const Wide& dense, double tolerance, const char* what) {
  const Index size = op.size(), count = std::min<Index>(3, size);
  const Execution execution{2, {}};
  Dense<T> start = Dense<T>::Random(count, size), vectors(count, size);
  const EigenOptions options{count, 3 * count + 15, tolerance, 20000};
  const EigenResult result =
      lowest_eigenpairs<T>(op, {start.data(), count, size}, {vectors.data(), count, size}, options, execution);
  const Eigen::SelfAdjointEigenSolver<Wide> solver(dense);
  check(Index(result.values.size()) == count, what);
  for (Index i = 0; i < count; ++i) {
    const double scale = std::max(std::abs(solver.eigenvalues()[0]), std::abs(solver.eigenvalues()[size - 1]));
    check_close(1 + (result.values[std::size_t(i)] - solver.eigenvalues()[i]) / scale, 1, 10 * tolerance, what);
  }
}

template <class T>
Wide dense_hessian(const Model<T>& model, const Arrays<T>& p) {
  const Plain plain(model, p, {false, 0});
  const Index K = model.problem.K, d = model.problem.d, M = model.problem.M;
  Wide hessian(0, (K + M) * d + K);
  for (Index i = 0; i < hessian.cols(); ++i) {
    Wide unit = Wide::Zero(1, hessian.cols());
    unit(0, i) = 1;
    const Arrays<double> direction{Eigen::Map<Wide>(unit.data(), K, d), Eigen::Map<Wide>(unit.data() + K * d, M, d),
                                   unit.rightCols(K)};
    const Arrays<double> image = plain.hessian_product(direction);
    hessian.conservativeResize(i + 1, Eigen::NoChange);
    hessian.row(i) << Eigen::Map<const Wide>(image.W.data(), 1, K * d),
        Eigen::Map<const Wide>(image.H.data(), 1, M * d), image.b;
  }
  return hessian;
}

/// A Hessian between the tangents (W S, H S) of rotations, S skew, which get an eigenvalue above all others.
template <class T>
Wide without_rotations(const Wide& hessian, const Arrays<T>& p) {
  const Index d = p.W.cols(), of_W = p.W.size(), of_H = p.H.size();
  Wide tangents = Wide::Zero(hessian.cols(), d * (d - 1) / 2);
  Index count = 0;
  for (Index i = 0; i < d; ++i) {
    for (Index j = 0; j < i; ++j, ++count) {
      for (Index k = 0; k < (of_W + of_H) / d; ++k) {
        const auto entry = [&](Index l) { return double(k < p.W.rows() ? p.W(k, l) : p.H(k - p.W.rows(), l)); };
        tangents(k * d + i, count) = entry(j);
        tangents(k * d + j, count) = -entry(i);
      }
    }
  }
  const Eigen::SelfAdjointEigenSolver<Wide> squares(product(tangents, tangents.transpose()));
  const Wide Q = squares.eigenvectors().rightCols(count);  // the others have the eigenvalue zero
  const Wide onto_rotations = product(Q, Q.transpose());
  const Wide others = Wide::Identity(hessian.cols(), hessian.cols()) - onto_rotations;
  return product(product(others, hessian), others) + 2 * hessian.norm() * onto_rotations;
}

/// Turns the features so that W^T W + H^T H is diagonal.
template <class T>
void turn_to_axes(Arrays<T>& p) {
  const Wide W = p.W.template cast<double>(), H = p.H.template cast<double>();
  const Wide gram = product(W.transpose(), W) + product(H.transpose(), H);
  const Wide axes = Eigen::SelfAdjointEigenSolver<Wide>(gram).eigenvectors();
  p.W = product(W, axes).template cast<T>();
  p.H = product(H, axes).template cast<T>();
}

template <class T>
void compare_all(double tolerance) {
  Model<T> model({5, 4, 7}, loss_of(CrossEntropy<T>{5, T(0)}), true);
  model.problem.ridges.assign(7, T(0.02));  // the preconditioner takes them for equal
  Arrays<T> p = model.random_point(3);
  const Execution execution{2, {}};
  const HessianOperator<T> hessian(model.problem, p.view(), true, false, execution);
  compare<T>(hessian, dense_hessian(model, p), tolerance, "eigenvalue of the Hessian");

  Arrays<T> turned = p;
  turn_to_axes(turned);
  const HessianOperator<T> deflated(model.problem, turned.view(), false, true, execution);
  compare<T>(deflated, without_rotations(dense_hessian(model, turned), turned), tolerance,
             "eigenvalue of the Hessian without rotations");

  Dense<T> G(7, 5);
  gradient_matrix<T>(model.problem, p.view(), {G.data(), 7, 5}, execution);
  const Wide wide_G = G.template cast<double>(), gram = -product(wide_G.transpose(), wide_G);
  const GradientOperator<T> singular(model.problem, p.view(), false, {nullptr, 0, 5}, execution);
  compare<T>(singular, gram, tolerance, "squared singular value of the gradient matrix");

  Dense<T> symmetric = Dense<T>::Random(60, 60);
  symmetric = (symmetric + symmetric.transpose()).eval();
  const NegatedSymmetric<T> stored({symmetric.data(), 60, 60});
  compare<T>(stored, -symmetric.template cast<double>(), tolerance, "eigenvalue of a stored matrix");
}

}  // namespace

int main() {
  compare_all<double>(1e-9);
  compare_all<float>(2e-4);
  return ufm_fast::tests::failures();
}
