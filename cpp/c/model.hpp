#pragma once

// A problem of the C functions, evaluated by the functions of a level. Whoever calls has compared arguments with null.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "not_finite.hpp"

namespace ufm_fast::c {

/// The rows of data as the C functions take them.
struct Rows {
  Index M;
  const std::int64_t* labels;
  const std::int64_t *starts, *columns;
  const double* entries;
  const double *samples, *weights, *ridges;
};

/// What a problem is, but for its rows.
struct Description {
  std::string loss;
  Index K, d;
  bool single_precision;
  LossParameters parameters = {};
  Decays decays = {};
  Execution execution = {};
};

inline std::vector<double> numbers(const double* values, Index count) {
  return values == nullptr ? std::vector<double>() : std::vector<double>(values, values + count);
}

template <class T>
Targets<T> targets_of(const Rows& rows, Index K) {
  if (rows.M < 1) throw std::invalid_argument("M must be positive, not " + std::to_string(rows.M));
  if (rows.starts != nullptr) {
    const Index count = rows.starts[rows.M];
    if (count < 0) throw std::invalid_argument("starts must end with the number of entries");
    return Targets<T>::of_sparse_rows(K, {rows.starts, rows.starts + rows.M + 1}, {rows.columns, rows.columns + count},
                                      {rows.entries, rows.entries + count});
  }
  if (rows.entries != nullptr) {
    if (rows.M > std::numeric_limits<Index>::max() / K) throw std::bad_alloc();
    return Targets<T>::of_rows(K, {rows.entries, rows.entries + rows.M * K});
  }
  std::vector<Index> labels(static_cast<std::size_t>(rows.M));
  for (Index m = 0; m < rows.M; ++m) labels[m] = rows.labels == nullptr ? m : rows.labels[m];
  return Targets<T>::of_labels(K, std::move(labels));
}

/// Exceptions: std::invalid_argument where what is given is not as it should be, std::overflow_error where a result is
/// too large for its type, and what the core throws.
template <class T>
class Model {
 public:
  Model(const Level& level, const Description& description, const Rows& rows)
      : functions_(&level.in<T>()),
        problem_(make_problem(
            functions_->make_loss(description.loss, description.K, description.parameters), description.d,
            targets_of<T>(rows, description.K), description.decays,
            {numbers(rows.samples, rows.M), numbers(rows.weights, rows.M), numbers(rows.ridges, rows.M)})) {}

  const Problem<T>& problem() const { return problem_; }

  /// The loss goes to `value`: infinity where that, or the gradient, is an exception for the numbers it meets.
  void loss(PointView<const T> p, double& value, const Execution& execution) const {
    value = infinity;
    if (has_finite_b(p)) value = functions_->loss(problem_, p, execution);
    require_finite(value, p);
  }

  void loss_and_gradient(PointView<const T> p, double& value, PointView<T> gradient, const Execution& execution) const {
    value = infinity;
    if (has_finite_b(p)) value = functions_->loss_and_gradient(problem_, p, gradient, execution, {});
    require_finite(value, p);
  }

  /// Products with `count` packed directions, one after the other, at the packed point x.
  void hessian_products(const T* x, Index count, const T* v, T* out, const Execution& execution) const {
    std::vector<PointView<const T>> directions;
    std::vector<PointView<T>> images;
    for (Index i = 0; i < count; ++i) {
      directions.push_back(problem_.point(v + i * problem_.size()));
      images.push_back(problem_.point(out + i * problem_.size()));
    }
    const PointView<const T> p = problem_.point(x);
    if (functions_->hessian_products(problem_, p, directions, {}, images, execution)) return;
    require_finite(p, "");
    for (const PointView<const T>& direction : directions) require_finite(direction, "v, ");
    throw std::overflow_error(overflow_message(problem_, "the Hessian product"));
  }

 private:
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  const Functions<T>* functions_;
  Problem<T> problem_;

  /// What is not finite in W and H shows in the loss; in b it may not.
  bool has_finite_b(PointView<const T> p) const {
    return !problem_.bias || p.b == nullptr || functions_->first_not_finite(p.b, problem_.biases()) < 0;
  }

  void require_finite(double& value, PointView<const T> p) const {
    if (std::isfinite(value)) return;
    value = infinity;
    require_finite(p, "");
    throw std::overflow_error(overflow_message(problem_, "the loss or its gradient"));
  }

  void require_finite(PointView<const T> p, const std::string& prefix) const {
    ufm_fast::require_finite(*functions_, p.W.data, problem_.K * problem_.d, prefix + "W");
    ufm_fast::require_finite(*functions_, p.H.data, problem_.M * problem_.d, prefix + "H");
    if (problem_.bias) ufm_fast::require_finite(*functions_, p.b, problem_.biases(), prefix + "b");
  }
};

}  // namespace ufm_fast::c
