#pragma once

#include "model.hpp"

namespace ufm_fast::tests {

/// What the plain algebra is of: squared error, or cross-entropy with this label smoothing.
struct PlainLoss {
  bool squares;
  double smoothing;
};

/// A model in plain algebra, in double.
class Plain {
 public:
  template <class T>
  Plain(const Model<T>& model, const Arrays<T>& p, PlainLoss loss)
      : Plain(widened(model.problem), wide(p), targets_of(model), loss) {}
  Plain(const Problem<double>& problem, const Arrays<double>& p, const Wide& targets, PlainLoss loss);

  const Wide& targets() const { return targets_; }
  const Wide& weights() const { return weights_; }
  const Wide& scales() const { return scales_; }

  double loss() const;
  Arrays<double> gradient() const;
  Arrays<double> hessian_product(const Arrays<double>& direction) const;

 private:
  Index K_;
  bool squares_, bias_;
  double lambda_W_, lambda_b_;
  Wide W_, H_, b_, weights_, scales_, ridges_, targets_, Z_, P_, G_;

  Wide logits(const Wide& scores, const Wide& b) const;
  Wide bias_part(const Wide& rows, const Wide& b) const;

  /// The numbers of a problem.
  template <class T>
  static Problem<double> widened(const Problem<T>& problem) {
    const auto numbers = [](const std::vector<T>& x) { return std::vector<double>(x.begin(), x.end()); };
    Problem<double> out;
    out.K = problem.K;
    out.weights = numbers(problem.weights);
    out.scales = numbers(problem.scales);
    out.ridges = numbers(problem.ridges);
    out.lambda_W = double(problem.lambda_W);
    out.lambda_b = double(problem.lambda_b);
    out.bias = problem.bias;
    return out;
  }

  template <class T>
  static Wide targets_of(const Model<T>& model) {
    Dense<T> targets(model.problem.M, model.problem.K);
    for (Index m = 0; m < model.problem.M; ++m) model.problem.targets->write_row(m, targets.row(m).data());
    return targets.template cast<double>();
  }
};

/// X Y.
Wide product(const Wide& X, const Wide& Y);

}  // namespace ufm_fast::tests
