// Classes in blocks, each of which knows of the others only sums of rows, against dense algebra of all classes.
#include <ufm_fast/model/class_derivatives.hpp>

#include "compare.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

/// Some classes of a model: a problem, labels and points of their own, as another process would have them.
template <class T>
struct Part {
  Problem<T> problem;
  std::vector<Index> labels;
  Arrays<T> p, v, gradient, product;
  std::vector<T> others, label_logits, logit_sums, moves, label_moves;
  double value = 0;

  Part(const Model<T>& model, const Arrays<T>& point, const Arrays<T>& direction, Index first, Index last)
      : problem(model.problem), p(cut(point, first, last)), v(cut(direction, first, last)) {
    const Index M = problem.M, K = last - first;
    problem.K = K;
    problem.loss = make_loss<T>("cross_entropy", K, {{"label_smoothing", 0.0}});
    problem.targets = std::make_shared<const Targets<T>>(Targets<T>::of_labels(K, std::vector<Index>(M, 0)));
    if (first > 0) std::fill(problem.ridges.begin(), problem.ridges.end(), T(0));
    for (Index m = 0; m < M; ++m) labels.push_back(model.problem.targets->anchor(m) - first);
    gradient = product = cut(point, first, last);
    for (std::vector<T>* x : {&others, &label_logits, &logit_sums, &moves, &label_moves}) x->resize(M);
  }

  static Arrays<T> cut(const Arrays<T>& x, Index first, Index last) {
    return {x.W.middleRows(first, last - first), x.H, x.b.middleCols(first, last - first)};
  }
  ClassBlock<T> block() const { return {problem, labels.data()}; }
};

/// What ranks do between the passes.
template <class T>
void compare_blocks(const Shape& shape, const std::vector<Index>& ends, double smoothing, bool bias, int threads,
                    double tolerance) {
  const PlainLoss plain_loss{false, smoothing};
  const Model<T> model(shape, core_loss<T>(plain_loss, shape.K), bias);
  const Arrays<T> point = model.random_point(1), direction = model.random_point(2);
  const Execution execution{threads, {}};
  std::vector<Part<T>> parts;
  for (std::size_t i = 0; i + 1 < ends.size(); ++i) parts.emplace_back(model, point, direction, ends[i], ends[i + 1]);
  std::vector<T> logsumexps, residuals, means, curvatures;
  double value = 0;
  for (Part<T>& x : parts) {
    class_logits<T>(x.block(), x.p.view(), x.others.data(), x.label_logits.data(), x.logit_sums.data(), execution);
  }
  for (Index m = 0; m < shape.M; ++m) {
    double exponentials = 0, label = 0, sum = 0;
    for (const Part<T>& x : parts) label += double(x.label_logits[m]), sum += double(x.logit_sums[m]);
    for (const Part<T>& x : parts) exponentials += std::exp(double(x.others[m]) - label);
    const double l = std::log1p(exponentials);
    value += double(model.problem.weights[m]) * (l + smoothing * (label - sum / double(shape.K)));
    logsumexps.push_back(T(label + l));
    residuals.push_back(T(-exponentials / (1 + exponentials)));
  }
  const ClassSums<T> sums{logsumexps.data(), residuals.data(), T(smoothing), shape.K};
  for (Part<T>& x : parts) {
    value += class_gradient<T>(x.block(), sums, x.p.view(), x.gradient.view(), execution);
    class_moves<T>(x.block(), logsumexps.data(), x.p.view(), x.v.view(), x.moves.data(), x.label_moves.data(),
                   execution);
  }
  for (Index m = 0; m < shape.M; ++m) {
    double mean = 0, label = 0;
    for (const Part<T>& x : parts) mean += double(x.moves[m]), label += double(x.label_moves[m]);
    const double shift = mean + double(residuals[m]) * label;
    means.push_back(T(label + shift));
    curvatures.push_back(T(-(1 + double(residuals[m])) * shift));
  }
  Arrays<T> gradient = model.zeros(), product = model.zeros();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Part<T>& x = parts[i];
    check(class_product<T>(x.block(), sums, x.p.view(), x.v.view(), means.data(), curvatures.data(), x.product.view(),
                           execution),
          "the product is finite");
    for (auto [whole, part] : {std::pair(&gradient, &x.gradient), std::pair(&product, &x.product)}) {
      whole->W.middleRows(ends[i], part->W.rows()) = part->W;
      whole->H += part->H;
      whole->b.middleCols(ends[i], part->b.cols()) = part->b;
    }
  }
  const Plain plain(model, point, plain_loss);
  check_close(value, plain.loss(), tolerance, "loss of blocks");
  check_close(gradient, plain.gradient(), tolerance, "gradient of blocks");
  check_close(product, plain.hessian_product(wide(direction)), tolerance, "Hessian product of blocks");
}

template <class T>
void compare_all(double tolerance) {
  compare_blocks<T>({7, 5, 20}, {0, 7}, 0, true, 1, tolerance);
  compare_blocks<T>({7, 5, 20}, {0, 1, 4, 7}, 0.1, true, 1, tolerance);
  compare_blocks<T>({33, 70, 150}, {0, 16, 33}, 0, false, 2, tolerance);
  compare_blocks<T>({130, 40, 900}, {0, 100, 101, 130}, 0.2, true, 3, tolerance);
  compare_blocks<T>({300, 300, 70}, {0, 150, 300}, 0.1, true, 2, tolerance);
}

}  // namespace

int main() {
  compare_all<double>(1e-12);
  compare_all<float>(2e-4);
  return ufm_fast::tests::failures();
}
