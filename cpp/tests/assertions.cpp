// The assertions on what drivers take for granted hold, and fail where it does not: here they throw.
#include <stdexcept>

namespace {

struct AssertionFailed : std::logic_error {
  using std::logic_error::logic_error;
};

}  // namespace

#define eigen_assert(condition) ((condition) ? static_cast<void>(0) : throw AssertionFailed(#condition))

#include <ufm_fast/ufm_fast.hpp>

#include "compare.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

/// Checks that an assertion with this message fails in work().
template <class Work>
void check_asserted(const char* message, Work&& work) {
  try {
    work();
  } catch (const AssertionFailed& error) {
    check(std::string(error.what()).find(message) != std::string::npos, error.what());
    return;
  }
  check(false, message);
}

Model<double> model_of(const Shape& shape) { return {shape, core_loss<double>({false, 0}, shape.K), true}; }

double loss_at(const Model<double>& model, Arrays<double> p) {
  return loss<double>(model.problem, p.view(), Execution{});
}

void check_problems() {
  const Shape shape{5, 4, 7};
  const Model<double> model = model_of(shape);
  const Arrays<double> p = model.random_point(1);
  check(std::isfinite(loss_at(model, p)), "a problem whose parts fit is taken");
  Model<double> other = model;
  other.problem.loss = core_loss<double>({false, 0}, 6);
  check_asserted("the loss is of K logits", [&] { loss_at(other, p); });
  other = model;
  other.problem.targets = model_of({6, 4, 7}).problem.targets;
  check_asserted("the targets are of the loss's classes", [&] { loss_at(other, p); });
  other.problem.targets = model_of({5, 4, 8}).problem.targets;
  check_asserted("each of the M rows has a target", [&] { loss_at(other, p); });
  other = model;
  other.problem.scales.pop_back();
  check_asserted("each of the M rows has a scale", [&] { loss_at(other, p); });
  check_asserted("W is (K, d)", [&] { loss_at(model, model_of({5, 3, 7}).random_point(1)); });
  check_asserted("H is (M, d)", [&] { loss_at(model, model_of({5, 4, 8}).random_point(1)); });
  const Wide G = Wide::Zero(7, 4);
  check_asserted("the matrix is (M, K)", [&] { curvature_sums<double>(model.problem, {G.data(), 7, 4}, Execution{}); });
}

void check_hessian_operators() {
  Model<double> model = model_of({5, 4, 7});
  Arrays<double> p = model.random_point(1);
  const auto make = [&](bool deflate) {
    HessianOperator<double>(model.problem, p.view(), false, deflate, Execution{});
  };
  check_asserted("the ridges are equal", [&] { make(false); });
  model.problem.ridges.assign(7, 0.02);
  make(false);
  check_asserted("W^T W + H^T H is diagonal", [&] { make(true); });
}

void check_pair_metrics() {
  const Index K = 7;
  const Model<double> model = model_of({K, K, K});  // its labels are 7 m mod K: all the same
  const Wide numbers = Wide::Ones(K, K);
  Wide out_A(K, K), out_B(K, K);
  const auto apply = [&](const Problem<double>& problem) {
    const MatrixView<const double> X(numbers.data(), K, K);
    const PairMetric<double> metric{X.data, X.data, X.data, X.data, 1e-3};
    metric.apply(problem, X, X, X, {out_A.data(), K, K}, {out_B.data(), K, K}, Execution{});
  };
  check_asserted("there is one row a class, in order", [&] { apply(model.problem); });
  Problem<double> in_order = model.problem;
  in_order.targets = std::make_shared<const Targets<double>>(Targets<double>::of_labels(K, {0, 1, 2, 3, 4, 5, 6}));
  apply(in_order);
}

}  // namespace

int main() {
  check_problems();
  check_hessian_operators();
  check_pair_metrics();
  return failures();
}
