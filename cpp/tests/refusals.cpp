// What drivers take for granted is checked: whatever does not fit is an exception that names it, before memory is
// touched. What would take as long as the work itself is an assertion, and here that throws too.
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

/// Checks that work() throws an error with this message: an std::invalid_argument, or a failed assertion.
template <class Error = std::invalid_argument, class Work>
void check_refused(const char* message, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    check(std::string(error.what()).find(message) != std::string::npos, error.what());
    return;
  }
  check(false, message);
}

Model<double> model_of(const Shape& shape) { return {shape, core_loss<double>({false, 0}, shape.K), true}; }

double loss_at(const Model<double>& model, Arrays<double> p) { return loss(model.problem, p.view()); }

void check_problems() {
  const Model<double> model = model_of({5, 4, 7});
  const Arrays<double> p = model.random_point(1);
  check(std::isfinite(loss_at(model, p)), "a problem whose parts fit is taken");
  Model<double> other = model;
  other.problem.loss = core_loss<double>({false, 0}, 6);
  check_refused("loss must be of K logits", [&] { loss_at(other, p); });
  other.problem.loss = nullptr;
  check_refused("loss must be of K logits", [&] { loss_at(other, p); });
  other = model;
  other.problem.targets = nullptr;
  check_refused("targets must be of the loss's classes", [&] { loss_at(other, p); });
  other.problem.targets = model_of({6, 4, 7}).problem.targets;
  check_refused("targets must be of the loss's classes", [&] { loss_at(other, p); });
  other.problem.targets = model_of({5, 4, 8}).problem.targets;
  check_refused("targets must be M rows", [&] { loss_at(other, p); });
  other = model;
  other.problem.weights.clear();
  check_refused("weights must be M = 7 numbers, not 0", [&] { loss_at(other, p); });
  other = model;
  other.problem.scales.pop_back();
  check_refused("scales must be M = 7 numbers, not 6", [&] { loss_at(other, p); });
  other = model;
  other.problem.bias = false;
  other.problem.loss = make_ordinal<double>(5, {}, "logit");
  other.problem.K = 1;
  check_refused("bias must be true", [&] { loss(other.problem, {}); });
}

void check_points() {
  const Model<double> model = model_of({5, 4, 7});
  Arrays<double> p = model.random_point(1), gradient = model.zeros(), out = model.zeros();
  check_refused("W must be (K, d)", [&] { loss_at(model, model_of({5, 3, 7}).random_point(1)); });
  check_refused("H must be (M, d)", [&] { loss_at(model, model_of({5, 4, 8}).random_point(1)); });
  check_refused("W must be (K, d)", [&] { loss_and_gradient(model.problem, {}, gradient.view()); });
  check_refused("W must be (K, d)", [&] { loss_and_gradient(model.problem, p.view(), {}); });
  PointView<double> without_b = p.view();
  without_b.b = nullptr;
  check_refused("b must not be null", [&] { loss(model.problem, without_b); });
  check_refused("W must be (K, d)", [&] { hessian_product(model.problem, p.view(), {}, out.view()); });
  check_refused("W must be (K, d)", [&] { hessian_product(model.problem, p.view(), p.view(), {}); });
  check_refused("as many points", [&] { hessian_products(model.problem, p.view(), {p.view()}, {}, {}); });
  const Wide G = Wide::Zero(7, 4);
  check_refused("a matrix must be (M, K)",
                [&] { curvature_sums<double>(model.problem, {G.data(), 7, 4}, Execution{}); });
}

void check_numbers() {
  const Model<double> model = model_of({5, 4, 7});
  model.problem.validate();
  const auto refused = [&](const char* message, auto&& change) {
    check_refused(message, [&] {
      Problem<double> problem = model.problem;
      change(problem);
      problem.validate();
    });
  };
  using P = Problem<double>;
  refused("weights must be finite, but number 3 is nan", [](P& p) { p.weights[3] = NAN; });
  refused("scales must be finite, but number 0 is inf", [](P& p) { p.scales[0] = INFINITY; });
  refused("ridges must be finite and at least 0", [](P& p) { p.ridges[2] = -1; });
  refused("lambda_W must be finite and at least 0", [](P& p) { p.lambda_W = -1; });
  refused("lambda_b must be finite and at least 0", [](P& p) { p.lambda_b = NAN; });
  refused("weights must be M", [](P& p) { p.weights.clear(); });
  refused("d must be positive", [](P& p) { p.d = 0; });
  refused("less than 2^63 bytes", [](P& p) { p.d = Index{1} << 60; });
  refused("the 6 classes of the loss, not 5", [](P& p) {
    p.loss = core_loss<double>({false, 0}, 6);
    p.set_targets(*p.targets);
  });
  refused("sums to", [](P& p) { p.set_targets(Targets<double>::of_rows(5, {1, 1, 0, 0, 0})); });
}

void check_hessian_operators() {
  Model<double> model = model_of({5, 4, 7});
  Arrays<double> p = model.random_point(1);
  const auto make = [&](bool deflate) { HessianOperator(model.problem, p.view(), false, deflate); };
  check_refused("ridges must be equal", [&] { make(false); });
  model.problem.ridges.assign(7, 0.02);
  make(false);
  check_refused<AssertionFailed>("W^T W + H^T H is diagonal", [&] { make(true); });
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
  check_refused("one sample a class, in order", [&] { apply(model.problem); });
  Problem<double> in_order = model.problem;
  in_order.targets = std::make_shared<const Targets<double>>(Targets<double>::of_labels(K, {0, 1, 2, 3, 4, 5, 6}));
  apply(in_order);
}

}  // namespace

int main() {
  check_problems();
  check_points();
  check_numbers();
  check_hessian_operators();
  check_pair_metrics();
  return failures();
}
