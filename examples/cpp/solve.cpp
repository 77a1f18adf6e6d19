// An unconstrained feature model of ten classes, half of which are rare, solved with other people's C++: liblbfgs
// minimises our loss, and Spectra finds the lowest eigenvalue of our Hessian, at the saddle W = H = b = 0 and at the
// end.
//
//   cmake -S . -B build -Dufm_fast_DIR=$(ufm-fast config --cmakedir) && cmake --build build && build/solve
//
// Prints a line a number, or why there is none.
#include <cstdio>
#include <ufm_fast/losses/cross_entropy.hpp>
#include <ufm_fast/model/hessian.hpp>
#include <ufm_fast/model/make_problem.hpp>

#ifdef HAS_LBFGS
#include <lbfgs.h>
#endif
#ifdef HAS_SPECTRA
#include <Spectra/SymEigsSolver.h>
#endif

namespace {

using Numbers = std::vector<double>;
using Problem = ufm_fast::Problem<double>;

/// One row of H a class: the mean of its features.
Problem ten_classes() {
  const ufm_fast::Index K = 10, d = 12;
  const auto loss = ufm_fast::loss_of(ufm_fast::CrossEntropy<double>{K, 0.0});  // or, of a name, by make_loss
  std::vector<ufm_fast::Index> labels;
  ufm_fast::RowCounts rows;
  for (ufm_fast::Index k = 0; k < K; ++k) {
    labels.push_back(k);
    rows.samples.push_back(k < K / 2 ? 100 : 10);
  }
  const auto targets = ufm_fast::Targets<double>::of_labels(K, labels);
  return make_problem(loss, d, targets, {5e-3, 1e-4, 1e-2}, rows);
}

double dot(const Numbers& x, const Numbers& y) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

/// Loss, and its first two derivatives along a direction, at a point that another program can make too.
void show_derivatives(const Problem& problem) {
  Numbers x, v, gradient(std::size_t(problem.size())), product(gradient);
  for (std::size_t i = 1; i <= gradient.size(); ++i) {
    x.push_back(std::sin(double(i)));
    v.push_back(std::cos(double(i)));
  }
  const double value = loss_and_gradient(problem, problem.point(x), problem.point(gradient));
  hessian_product(problem, problem.point(x), problem.point(v), problem.point(product));
  std::printf("loss %.17g\nslope %.17g\ncurvature %.17g\n", value, dot(gradient, v), dot(product, v));
}

#ifdef HAS_LBFGS
double evaluate(void* instance, const double* x, double* gradient, int, double) {
  const Problem& problem = *static_cast<const Problem*>(instance);
  return loss_and_gradient(problem, problem.point(x), problem.point(gradient));
}

void minimise(Problem& problem, Numbers& x) {
  lbfgs_parameter_t options;
  lbfgs_parameter_init(&options);
  options.epsilon = 1e-9;
  options.m = 20;
  double value = 0;
  const int status = lbfgs(int(x.size()), x.data(), &value, evaluate, nullptr, &problem, &options);
  std::printf("minimum %.17g\nstatus of lbfgs %d\n", value, status);
}
#endif

#ifdef HAS_SPECTRA
/// The Hessian at a point plus the identity, for Spectra: it wants residuals that are small beside the eigenvalue,
/// which the zero of rotated features never allows.
class Hessian {
 public:
  using Scalar = double;

  Hessian(const Problem& problem, const Numbers& x) : problem_(problem), p_(problem.point(x)) {}
  int rows() const { return int(problem_.size()); }
  int cols() const { return rows(); }
  void perform_op(const double* v, double* out) const {
    hessian_product(problem_, p_, problem_.point(v), problem_.point(out));
    for (int i = 0; i < rows(); ++i) out[i] += v[i];
  }

 private:
  const Problem& problem_;
  ufm_fast::PointView<const double> p_;
};

void show_lowest_eigenvalue(const Problem& problem, const Numbers& x, const char* where) {
  Hessian hessian(problem, x);
  Spectra::SymEigsSolver<Hessian> solver(hessian, 1, 60);
  solver.init();
  solver.compute(Spectra::SortRule::SmallestAlge, 500, 1e-8);
  if (solver.info() != Spectra::CompInfo::Successful) {
    std::printf("lowest eigenvalue %s: Spectra has not converged\n", where);
  } else {
    std::printf("lowest eigenvalue %s %.17g\n", where, solver.eigenvalues()[0] - 1);
  }
}
#else
void show_lowest_eigenvalue(const Problem&, const Numbers&, const char* where) {
  std::printf("lowest eigenvalue %s: skipped, Spectra was not found\n", where);
}
#endif

}  // namespace

int main() {
  Problem problem = ten_classes();
  show_derivatives(problem);
  Numbers x(std::size_t(problem.size()), 0.0);
  show_lowest_eigenvalue(problem, x, "at zero");
#ifdef HAS_LBFGS
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.5 * std::sin(double(i + 1));  // away from the saddle
  minimise(problem, x);
  show_lowest_eigenvalue(problem, x, "at the minimum");
#else
  std::printf("minimum: skipped, liblbfgs was not found\n");
#endif
}
