// Targets as labels, as dense rows and as sparse rows: against each other and against plain algebra.
#include <functional>

#include "compare.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

template <class T>
Dense<T> one_hot(const Targets<T>& labels) {
  Dense<T> rows = Dense<T>::Zero(labels.rows(), labels.K());
  for (Index m = 0; m < labels.rows(); ++m) rows(m, labels.anchor(m)) = 1;
  return rows;
}

/// Distributions with a few entries a row that are not zero; every third row has one.
template <class T>
Dense<T> soft(const Shape& shape) {
  Dense<T> rows = Dense<T>::Zero(shape.M, shape.K);
  for (Index m = 0; m < shape.M; ++m) {
    for (Index e = 0; e <= m % 3; ++e) rows(m, (5 * m + 3 * e * e) % shape.K) += T(1 + e);
    rows.row(m) /= rows.row(m).sum();
  }
  return rows;
}

template <class T>
Targets<T> dense(const Dense<T>& rows) {
  return Targets<T>::of_rows(rows.cols(), std::vector<T>(rows.data(), rows.data() + rows.size()));
}

template <class T>
Targets<T> sparse(const Dense<T>& rows) {
  std::vector<Index> starts{0}, columns;
  std::vector<T> entries;
  for (Index m = 0; m < rows.rows(); ++m) {
    for (Index k = 0; k < rows.cols(); ++k) {
      if (rows(m, k) == 0) continue;
      columns.push_back(k);
      entries.push_back(rows(m, k));
    }
    starts.push_back(static_cast<Index>(columns.size()));
  }
  return Targets<T>::of_sparse_rows(rows.cols(), starts, columns, entries);
}

template <class T>
void compare_evaluations(const Model<T>& model, const Model<T>& other, double tolerance) {
  const Evaluation<T> x(model, 2), y(other, 2);
  check_close(x.value, y.value, tolerance, "loss of targets in another form");
  check_close(x.gradient, wide(y.gradient), tolerance, "gradient of targets in another form");
  check_close(x.product, wide(y.product), tolerance, "Hessian product of targets in another form");
}

template <class T>
void compare_forms(const Shape& shape, PlainLoss plain_loss, double unit, double tolerance) {
  const LossPointer<T> loss = core_loss<T>(plain_loss, shape.K);
  const Dense<T> hot = one_hot(some_labels<T>(shape)), rows = soft<T>(shape);
  const Model<T> labels(shape, loss, true);
  compare_evaluations(Model<T>(shape, loss, true, dense(hot)), labels, unit);
  compare_evaluations(Model<T>(shape, loss, true, sparse(hot)), labels, unit);
  const Model<T> dense_model(shape, loss, true, dense(rows));
  compare_evaluations(Model<T>(shape, loss, true, sparse(rows)), dense_model, 0);
  compare_with_plain(dense_model, plain_loss, 2, tolerance);
  if (plain_loss.squares) {
    const Dense<T> any = Dense<T>::Random(shape.M, shape.K);
    compare_with_plain(Model<T>(shape, loss, false, dense(any)), plain_loss, 1, tolerance);
  }
}

/// The states of rows, from their part of the gradient matrix.
void compare_states(const Model<double>& model) {
  const Problem<double>& problem = model.problem;
  Arrays<double> p = model.random_point(1);
  Wide G(problem.M, problem.K), S(G), from_G(G);
  gradient_matrix(problem, p.view(), {G.data(), problem.M, problem.K});
  row_states(problem, p.view(), {S.data(), problem.M, problem.K});
  for (Index column = 0; column < problem.K; column += 3) {
    const Index count = std::min<Index>(3, problem.K - column);
    problem.loss->states_of_gradient(problem.data(nullptr), 0, column, {G.data() + column, problem.M, count, problem.K},
                                     {from_G.data() + column, problem.M, count, problem.K});
  }
  check_close(1 + largest(from_G - S), 1, 1e-12, "state from the gradient");
}

/// Sums over the entries of a dual point off the anchors, one by one.
void compare_dual_sums(const Model<double>& model, double smoothing) {
  const Problem<double>& problem = model.problem;
  const Index K = problem.K, M = problem.M;
  Arrays<double> p = model.random_point(1);
  const Plain plain(model, p, {false, smoothing});
  Wide Y(M, K);
  gradient_matrix(problem, p.view(), {Y.data(), M, K});
  const double margin = 0.25;
  const DualSums sums = dual_sums(problem, {Y.data(), M, K}, margin, Execution{2, {}});
  std::vector<double> received(std::size_t(K), 0.0), absolute_received(received);
  for (Index m = 0; m < M; ++m) {
    const std::size_t row = std::size_t(m);
    const Index anchor = problem.targets->anchor(m);
    const double scale = plain.scales()(m, 0), own = plain.targets()(m, anchor);
    double added = 0, sizes = 0, wrong = 0, entropy = 0, logarithms = 0, least = 1, above_margin = 1;
    for (Index k = 0; k < K; ++k) {
      if (k == anchor) continue;
      const double t = plain.targets()(m, k), Q = t + Y(m, k) / (plain.weights()(m, 0) * scale);
      added += Y(m, k);
      sizes += std::abs(Y(m, k));
      wrong += Q;
      entropy -= Q * std::log(Q);
      logarithms += t * (1 - std::log(Q));
      least = std::min(least, Q);
      above_margin = std::min(above_margin, Q - margin * t);
      received[std::size_t(k)] += Y(m, k) / scale;
      absolute_received[std::size_t(k)] += std::abs(Y(m, k)) / scale;
    }
    check_close(1 + sums.rows[row], 1 + added, 1e-14, "row of a dual point");
    check_close(sums.absolute_rows[row], sizes, 1e-13, "sizes in a row of a dual point");
    check_close(sums.wrong[row], wrong, 1e-13, "wrong classes");
    check_close(sums.entropy[row], entropy, 1e-13, "entropy");
    check_close(1 + sums.target_logarithms[row], 1 + logarithms, 1e-13, "target logarithms");
    check_close(sums.least[row], least, 1e-12, "least probability");
    check_close(1 + sums.least_above_margin[row], 1 + above_margin, 1e-14, "least probability above the margin");
    check_close(sums.own_target[row], own, 1e-14, "own target");
  }
  for (std::size_t k = 0; k < std::size_t(K); ++k) {
    check_close(1 + sums.received[k], 1 + received[k], 1e-14, "received");
    check_close(sums.absolute_received[k], absolute_received[k], 1e-13, "sizes received");
  }
}

void check_refused(const std::function<void()>& work, const char* what) {
  try {
    work();
    check(false, what);
  } catch (const std::invalid_argument&) {
  }
}

void check_refusals() {
  using Rows = Targets<double>;
  const LossPointer<double> entropy = core_loss<double>({false, 0}, 2);
  check_refused([] { Rows::of_labels(3, {0, 3}); }, "a label out of range is refused");
  check_refused([] { Rows::of_rows(2, {0.5, NAN}); }, "a target that is not a number is refused");
  check_refused([] { Rows::of_rows(2, {0.5, 0.5, 1}); }, "a row that is cut short is refused");
  check_refused([] { Rows::of_labels(0, {}); }, "no classes are refused");
  check_refused([] { Rows::of_sparse_rows(2, {0, 2}, {1, 0}, {0.5, 0.5}); }, "columns out of order are refused");
  check_refused([] { Rows::of_sparse_rows(2, {0, 1}, {2}, {1}); }, "a column out of range is refused");
  check_refused([] { Rows::of_sparse_rows(2, {0, 2, 1, 2}, {0, 1}, {1, 1}); }, "starts out of order are refused");
  for (const std::vector<double>& row : {std::vector<double>{0.5, 0.4}, {1.5, -0.5}}) {
    Rows targets = Rows::of_rows(2, row);
    check_refused([&] { entropy->prepare(targets); }, "a row that is no distribution is refused");
  }
  check_refused([] { make_loss<double>("hinge", 2, {}); }, "an unknown loss is refused");
  check_refused([] { make_loss<double>("mse", 2, {{"gamma", 1.0}}); }, "an unknown parameter is refused");
  check_refused([] { make_loss<double>("focal", 2); }, "a missing parameter is refused");
}

}  // namespace

int main() {
  for (const Shape& shape : {Shape{5, 4, 7}, Shape{33, 40, 50}, Shape{130, 9, 25}}) {
    for (const PlainLoss& loss : {PlainLoss{false, 0}, PlainLoss{false, 0.125}, PlainLoss{true, 0}}) {
      compare_forms<double>(shape, loss, 1e-14, 1e-12);
      compare_forms<float>(shape, loss, 1e-5, 2e-4);
      compare_states(Model<double>(shape, core_loss<double>(loss, shape.K), true));
      compare_states(Model<double>(shape, core_loss<double>(loss, shape.K), true, sparse(soft<double>(shape))));
    }
    for (const double smoothing : {0.0, 0.125}) {
      const LossPointer<double> loss = core_loss<double>({false, smoothing}, shape.K);
      compare_dual_sums(Model<double>(shape, loss, true), smoothing);
      compare_dual_sums(Model<double>(shape, loss, true, dense(soft<double>(shape))), smoothing);
      compare_dual_sums(Model<double>(shape, loss, true, sparse(soft<double>(shape))), smoothing);
    }
  }
  check_refusals();
  return ufm_fast::tests::failures();
}
