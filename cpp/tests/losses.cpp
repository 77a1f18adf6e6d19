// Every loss of the registry: against its formula, differences, itself in single precision, and what it reduces to.
#include <functional>
#include <string>

#include "differences.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

/// A loss by name, with the loss of one row in plain algebra.
struct Member {
  std::string name;
  std::function<LossParameters(Index)> parameters;
  std::function<double(const Wide& z, const Wide& t, Index label)> formula;
  bool soft;                     ///< whether targets may be other than labels
  bool bounds_diagonal = false;  ///< whether what it gives for the diagonal of l'' is a bound from above

  template <class T>
  LossPointer<T> make(Index K) const {
    return make_loss<T>(name, K, parameters(K));
  }
};

double log_sum_exp(const Wide& z) { return z.maxCoeff() + std::log((z.array() - z.maxCoeff()).exp().sum()); }

double smoothed_entropy(const Wide& z, const Wide& t, double smoothing) {
  return log_sum_exp(z) - (1 - smoothing) * z.cwiseProduct(t).sum() - smoothing * z.mean();
}

double softplus(double z) { return std::log1p(std::exp(-std::abs(z))) + std::max(z, 0.0); }

/// Some vectors over the logits: positive, and of any sign.
std::vector<double> scale_of(Index K) {
  std::vector<double> scale;
  for (Index k = 0; k < K; ++k) scale.push_back(0.5 + double(k % 5) / 4);
  return scale;
}
std::vector<double> shift_of(Index K) {
  std::vector<double> shift;
  for (Index k = 0; k < K; ++k) shift.push_back(std::sin(double(k)));
  return shift;
}

Wide as_row(const std::vector<double>& x) { return Eigen::Map<const Wide>(x.data(), 1, Index(x.size())); }

Member affine(bool scales, bool margins) {
  const auto parameters = [=](Index K) {
    LossParameters all{{"label_smoothing", 0.125}, {"shift", shift_of(K)}};
    if (scales) all["scale"] = scale_of(K);
    if (margins) all["margin"] = scale_of(K);
    return all;
  };
  const auto formula = [=](const Wide& z, const Wide& t, Index label) {
    Wide a = scales ? Wide(z.cwiseProduct(as_row(scale_of(z.cols())))) : z;
    a += as_row(shift_of(z.cols()));
    if (margins) a(0, label) -= scale_of(z.cols())[std::size_t(label)];
    return smoothed_entropy(a, t, 0.125);
  };
  return {"cross_entropy", parameters, formula, !margins};
}

Member binary(double smoothing) {
  const auto formula = [=](const Wide& z, const Wide& t, Index) {
    double sum = 0;
    for (Index c = 0; c < z.cols(); ++c) {
      sum += softplus(z(0, c)) - ((1 - smoothing) * t(0, c) + smoothing / 2) * z(0, c);
    }
    return sum;
  };
  return {"bce", [=](Index) { return LossParameters{{"label_smoothing", smoothing}}; }, formula, true};
}

Member focal(double gamma) {
  const auto formula = [=](const Wide& z, const Wide&, Index label) {
    const double l = log_sum_exp(z) - z(0, label);
    return std::pow(-std::expm1(-l), gamma) * l;
  };
  return {"focal", [=](Index) { return LossParameters{{"gamma", gamma}}; }, formula, false};
}

/// Groups of two or three blocks, one of a single block and, with the largest miss, one that is given up. Their loss is
/// the least over u, found by ternary search, of the loss of all classes, which has one term a class.
Member grouped() {
  const auto number = [](Index K, double (*of)(Index)) {
    std::vector<double> numbers;
    for (Index k = 0; k < K; ++k) numbers.push_back(of(k));
    return numbers;
  };
  const auto blocks = [](Index k) { return double(1 + (k + 1) % 3); };
  const auto size = [](Index k) { return double(1 + k % 2); };
  const auto miss = [](Index k) { return 0.25 + 0.25 * double(k % 4); };
  const auto parameters = [=](Index K) {
    return LossParameters{{"label_smoothing", 0.125}, {"blocks", number(K, blocks)}, {"size", number(K, size)},
                          {"miss", number(K, miss)},  {"scale", scale_of(K)},        {"shift", shift_of(K)}};
  };
  const auto formula = [=](const Wide& z, const Wide&, Index label) {
    const Wide a = z.cwiseProduct(as_row(scale_of(z.cols()))) + as_row(shift_of(z.cols()));
    const double B = blocks(label);
    const auto at = [&](double u) {
      std::vector<double> logits;  // those of the own block first
      for (int c = 0; c < size(label); ++c) logits.push_back(a(0, label) + u * (1 - 1 / B));
      for (int c = 0; c < (B - 1) * size(label); ++c) logits.push_back(a(0, label) - u / B);
      for (Index k = 0; k < z.cols(); ++k) {
        for (int c = 0; k != label && c < blocks(k) * size(k); ++c) logits.push_back(a(0, k));
      }
      const Wide all = as_row(logits), first = Wide::Identity(1, all.cols());
      return smoothed_entropy(all, first, 0.125) + miss(label) * (1 - 1 / B) * u;
    };
    double low = 0, high = B > 1 ? 100 : 0;
    for (int step = 0; step < 150; ++step) {
      const double third = (high - low) / 3;
      (at(low + third) < at(high - third) ? high : low) += (at(low + third) < at(high - third) ? -third : third);
    }
    return at((low + high) / 2);
  };
  return {"grouped_cross_entropy", parameters, formula, false, true};
}

std::vector<Member> members() {
  return {grouped(),  affine(true, true), affine(true, false), affine(false, true), binary(0), binary(0.1), focal(0),
          focal(0.5), focal(2),           focal(3.5)};
}

template <class T>
Targets<T> soft_targets(const Shape& shape) {
  std::vector<T> entries;
  for (Index m = 0; m < shape.M; ++m) {
    for (Index k = 0; k < shape.K; ++k) entries.push_back(T(k == m % shape.K ? 0.75 : 0.25 / double(shape.K - 1)));
  }
  return Targets<T>::of_rows(shape.K, entries);
}

template <class T>
Model<T> model_of(const Member& member, const Shape& shape, bool bias, bool soft) {
  const LossPointer<T> loss = member.make<T>(shape.K);
  return soft ? Model<T>(shape, loss, bias, soft_targets<T>(shape)) : Model<T>(shape, loss, bias);
}

void compare_with_formula(const Member& member, const Model<double>& model) {
  const Problem<double>& problem = model.problem;
  Arrays<double> p = model.random_point(1);
  double expected = problem.lambda_W / 2 * p.W.squaredNorm();
  if (problem.bias) expected += problem.lambda_b / 2 * p.b.squaredNorm();
  Wide t(1, problem.K);
  for (Index m = 0; m < problem.M; ++m) {
    const std::size_t i = std::size_t(m);
    problem.targets->write_row(m, t.data());
    Wide z = problem.scales[i] * p.H.row(m) * p.W.transpose();
    if (problem.bias) z += p.b;
    expected += problem.weights[i] * member.formula(z, t, problem.targets->anchor(m));
    expected += problem.ridges[i] / 2 * p.H.row(m).squaredNorm();
  }
  check_close(loss(problem, p.view()), expected, 1e-13, member.name.c_str());
}

void compare_with_single(const Member& member, const Shape& shape, bool bias, bool soft) {
  const Model<float> single = model_of<float>(member, shape, bias, soft);
  const Model<double> model = model_of<double>(member, shape, bias, soft);
  const Evaluation<float> x(single, 2);
  const Evaluation<double> y(model, 2);
  check_close(x.value, y.value, 1e-5, "loss in single precision");
  check_close(x.gradient, y.gradient, 1e-5, "gradient in single precision");
  check_close(x.product, y.product, 1e-4, "Hessian product in single precision");
}

/// States from the gradient, gradient from the states, and the diagonal second derivatives.
void compare_states(const Model<double>& model, bool bounds_diagonal) {
  const Problem<double>& problem = model.problem;
  const Index K = problem.K, M = problem.M;
  const Loss<double>& loss = *problem.loss;
  Arrays<double> p = model.random_point(1);
  Wide G(M, K), S(M, K), again(M, K), diagonal(M, K), images = Wide::Identity(K, K);
  gradient_matrix(problem, p.view(), {G.data(), M, K});
  row_states(problem, p.view(), {S.data(), M, K});
  const DataRows<double> data = problem.data(nullptr);
  loss.gradient_rows(data, 0, {S.data(), M, K}, {again.data(), M, K});
  check_close(1 + largest(again - G), 1, 1e-13, "gradient from the states");
  if (loss.gradient_tells_state()) {
    for (Index column = 0; column < K; column += 3) {
      const Index count = std::min<Index>(3, K - column);
      loss.states_of_gradient(data, 0, column, {G.data() + column, M, count, K}, {again.data() + column, M, count, K});
      diagonal = S;
      loss.diagonal_curvatures(data, 0, column, {diagonal.data() + column, M, count, K});
    }
    check_close(1 + largest(again - S), 1, 1e-12, "states from the gradient");
  }
  diagonal = S;
  loss.diagonal_curvatures(data, 0, 0, {diagonal.data(), M, K});
  std::vector<double> ignored(std::size_t(K), 0.0);
  for (Index m = 0; m < std::min<Index>(M, 5); ++m) {
    images.setIdentity(K, K);
    for (Index k = 0; k < K; ++k) {
      loss.second_order_rows(data, m, {S.row(m).data(), 1, K}, {images.row(k).data(), 1, K}, ignored.data());
    }
    const double factor = problem.weights[std::size_t(m)] * std::pow(problem.scales[std::size_t(m)], 2);
    check_close(1 + largest(images - images.transpose()), 1, 1e-14, "symmetry of the second derivative");
    const Wide above = factor * diagonal.row(m) - images.diagonal().transpose();
    check(above.minCoeff() >= -1e-14, "no diagonal entry below that of the second derivative");
    if (!bounds_diagonal) check_close(1 + largest(above), 1, 1e-14, "its diagonal");
  }
}

/// What is the same loss in other words gives the same numbers.
void compare_same(const LossPointer<double>& one, const LossPointer<double>& other, const Shape& shape) {
  const Evaluation<double> x(Model<double>(shape, one, true), 1), y(Model<double>(shape, other, true), 1);
  check_close(x.value, y.value, 1e-14, "loss in other words");
  check_close(x.gradient, y.gradient, 1e-13, "gradient in other words");
  check_close(x.product, y.product, 1e-13, "Hessian product in other words");
}

void compare_reductions(const Shape& shape) {
  const Index K = shape.K;
  const LossPointer<double> plain = make_loss<double>("cross_entropy", K, {{"label_smoothing", 0.0}});
  const std::vector<double> ones(std::size_t(K), 1.0), twos(std::size_t(K), 2.0);
  compare_same(make_loss<double>("focal", K, {{"gamma", 0.0}}), plain, shape);
  compare_same(make_loss<double>("cross_entropy", K, {{"label_smoothing", 0.0}, {"scale", ones}, {"shift", twos}}),
               plain, shape);
}

/// Value, residual and second derivative of a single row, for logits z and a label.
struct Row {
  double value;
  Wide gradient, second;

  Row(const LossPointer<double>& loss, Wide z, Index label) : gradient(z), second(z.cols(), z.cols()) {
    const Index K = z.cols();
    Targets<double> targets = Targets<double>::of_labels(K, {label});
    const double one = 1;
    const DataRows<double> data{targets, &one, &one, nullptr};
    std::vector<double> ignored(std::size_t(K), 0.0);
    value = loss->residual_rows(data, 0, {gradient.data(), 1, K}, nullptr, ignored.data(), {});
    loss->state_rows(data, 0, {z.data(), 1, K}, nullptr);
    second.setIdentity();
    for (Index k = 0; k < K; ++k) {
      loss->second_order_rows(data, 0, {z.data(), 1, K}, {second.row(k).data(), 1, K}, ignored.data());
    }
  }
};

/// Far in the right, with gap s to all others, the leading term of a two-class row; far in the wrong, the other limit.
void check_extremes() {
  const Wide z = as_row({40, 0, -700});
  const double q = std::exp(-40.0);
  for (const double gamma : {0.0, 0.5, 1.0, 3.0}) {
    const Row right(make_loss<double>("focal", 3, {{"gamma", gamma}}), z, 0);
    check_close(right.value, std::pow(q, gamma + 1), 1e-13, "small focal loss");
    check_close(right.gradient(0, 0), -(1 + gamma) * std::pow(q, gamma + 1), 1e-13, "small focal gradient");
    check_close(right.second(0, 0), (1 + gamma) * (1 + gamma) * std::pow(q, gamma + 1), 1e-13, "small focal curvature");
    const Row wrong(make_loss<double>("focal", 3, {{"gamma", gamma}}), z, 2);
    check_close(wrong.value, 740, 1e-13, "large focal loss");
    check_close(wrong.gradient(0, 2), -1, 1e-13, "focal gradient far in the wrong");
    check_close(wrong.second(0, 0), q, 1e-12, "focal curvature far in the wrong");
  }
  const LossPointer<double> bce = make_loss<double>("bce", 3, {{"label_smoothing", 0.0}});
  const Row right(bce, as_row({40, -50, -700}), 0);
  check_close(right.value, q + std::exp(-50.0), 1e-13, "small binary cross-entropy");
  check_close(right.gradient(0, 0), -q, 1e-13, "small binary gradient");
  check_close(right.gradient(0, 1), std::exp(-50.0), 1e-13, "small binary gradient of another class");
  check_close(right.second(0, 0), q, 1e-13, "small binary curvature");
  const Row wrong(bce, as_row({-40, 50, 800}), 0);
  check_close(wrong.value, 890, 1e-13, "large binary cross-entropy");
  check_close(wrong.gradient(0, 0), -1, 1e-13, "binary gradient far in the wrong");
  check_close(wrong.second(0, 0), q, 1e-13, "binary curvature far in the wrong");
}

void check_refused(const char* message, const std::function<void()>& work) {
  try {
    work();
    check(false, message);
  } catch (const std::logic_error& error) {  // an std::invalid_argument is one
    check(std::string(error.what()).find(message) != std::string::npos, error.what());
  }
}

void check_refusals() {
  const auto make = [](const char* name, LossParameters parameters) {
    return make_loss<double>(name, 2, std::move(parameters));
  };
  const auto entropy = [&](const char* parameter, std::vector<double> values) {
    return make("cross_entropy", {{"label_smoothing", 0.0}, {parameter, std::move(values)}});
  };
  using Numbers = std::vector<double>;
  check_refused("each of the 2 logits in scale", [&] { entropy("scale", {1, 1, 1}); });
  check_refused("positive, but not so scale", [&] { entropy("scale", {1, 0}); });
  check_refused("finite, but not so shift", [&] { entropy("shift", {1, INFINITY}); });
  check_refused("must not hold other", [&] { entropy("other", {1, 1}); });
  check_refused("label_smoothing in [0, 1]", [&] { make("cross_entropy", {{"label_smoothing", 1.5}}); });
  check_refused("a number for label_smoothing", [&] { make("bce", {{"label_smoothing", Numbers{0, 0}}}); });
  check_refused("must hold gamma", [&] { make("focal", {}); });
  check_refused("gamma finite, at least 0", [&] { make("focal", {{"gamma", -1.0}}); });

  const auto prepare = [](const LossPointer<double>& loss, double x, double y) {
    Targets<double> targets = Targets<double>::of_rows(2, {0.25, 0.75, x, y});
    loss->prepare(targets);
  };
  const LossPointer<double> bce = make("bce", {{"label_smoothing", 0.0}}), focal = make("focal", {{"gamma", 1.0}});
  prepare(bce, 1, 1);
  check_refused("in [0, 1], but row 1 holds 1.5", [&] { prepare(bce, 0, 1.5); });
  check_refused("in [0, 1], but row 1 holds -0.5", [&] { prepare(bce, -0.5, 0); });
  check_refused("but row 1 sums to 0.9", [&] { prepare(entropy("shift", {1, 1}), 0.25, 0.65); });
  check_refused("but row 1 holds -0.25", [&] { prepare(entropy("shift", {1, 1}), 1.25, -0.25); });
  check_refused("must be labels", [&] { prepare(entropy("margin", {1, 1}), 0.5, 0.5); });
  check_refused("must be labels", [&] { prepare(focal, 0.5, 0.5); });
  const Model<double> model({2, 3, 4}, focal, true);
  const Wide G = Wide::Zero(4, 2);
  check_refused("does not tell the states",
                [&] { curvature_sums<double>(model.problem, {G.data(), 4, 2}, Execution{}); });
}

}  // namespace

int main() {
  for (const Shape& shape : {Shape{5, 4, 7}, Shape{50, 40, 33}, Shape{131, 20, 65}}) {
    for (const Member& member : members()) {
      for (const bool bias : {false, true}) {
        for (const bool soft : {false, true}) {
          if (soft && !member.soft) continue;
          const Model<double> model = model_of<double>(member, shape, bias, soft);
          compare_with_formula(member, model);
          compare_with_differences(model, 1e-8);
          compare_states(model, member.bounds_diagonal);
          compare_with_single(member, shape, bias, soft);
        }
      }
    }
    compare_reductions(shape);
  }
  check_extremes();
  check_refusals();
  return failures();
}
