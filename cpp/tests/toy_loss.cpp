// A loss of one policy, which no other file knows, goes through every driver: against differences of the loss.
#include "differences.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

/// l = sum of (r^2 / 2 + r^4 / 4) over the entries of r = z - t. The state is r.
template <class T>
struct Quartic {
  using Scalar = T;
  static constexpr bool shift_invariant = false, of_distributions = false, wants_largest_logit = false;
  static constexpr bool gradient_tells_state = true;

  Index K;

  template <class Target>
  LossAndFactor<T> value_and_residual(T* z, Affine<T> affine, const Target& target, const T*) const {
    state(z, affine, target, nullptr);
    const auto squares = Vector<T>(z, K).square().template cast<double>();
    const double value = (squares / 2 + squares.square() / 4).sum();
    residual(z, target);
    return {value, T(1)};
  }

  void state(T* z, Affine<T> affine, Index label, const T*) const {
    affine.apply(z, K);
    z[label] -= T(1);
  }
  void state(T* z, Affine<T> affine, const DenseTarget<T>& target, const T*) const {
    affine.apply(z, K);
    Vector<T>(z, K) -= ConstVector<T>(target.entries, K);
  }

  template <class Target>
  void residual(T* state, const Target&) const {
    Vector<T> r(state, K);
    r += r.cube();
  }

  template <class Target>
  void second_order(const T* state, T* dz, const Target&) const {
    Vector<T>(dz, K) *= T(1) + T(3) * ConstVector<T>(state, K).square();
  }

  /// The real root of r^3 + r = x (Cardano's formula).
  template <class Target>
  void state_of_residual(const T* r, T factor, Index first, Index last, const Target&, T* out) const {
    for (Index i = 0; i < last - first; ++i) {
      const T half = factor * r[i] / 2, root = std::sqrt(half * half + T(1) / 27);
      out[i] = std::cbrt(half + root) + std::cbrt(half - root);
    }
  }

  void diagonal_curvature(T* state, Index first, Index last, Index) const {
    Vector<T> r(state, last - first);
    r = T(1) + T(3) * r.square();
  }

  void prepare(T*, Index, Index, Index) const {}
  void smooth(T*) const {}
};

void compare_curvature(const Model<double>& model) {
  const Problem<double>& problem = model.problem;
  const Execution execution{2, {}};
  Arrays<double> p = model.random_point(1);
  Wide G(problem.M, problem.K), S(problem.M, problem.K);
  gradient_matrix(problem, p.view(), {G.data(), problem.M, problem.K}, execution);
  row_states(problem, p.view(), {S.data(), problem.M, problem.K}, execution);
  double total = 0;
  for (Index m = 0; m < problem.M; ++m) {
    const double factor = problem.weights[std::size_t(m)] * std::pow(problem.scales[std::size_t(m)], 2);
    total += factor * (1 + 3 * S.row(m).array().square()).sum();
  }
  const auto sums = curvature_sums<double>(problem, {G.data(), problem.M, problem.K}, execution);
  check_close(sums.total, total, 1e-12, "curvature of the toy loss");
}

}  // namespace

int main() {
  for (const Shape& shape : {Shape{5, 4, 7}, Shape{50, 40, 33}, Shape{70, 20, 65}}) {
    for (const bool bias : {false, true}) {
      const Model<double> model(shape, loss_of(Quartic<double>{shape.K}), bias);
      compare_with_differences(model, 1e-9);
      compare_curvature(model);
    }
  }
  return ufm_fast::tests::failures();
}
