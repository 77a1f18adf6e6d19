#pragma once

#include <vector>

#include "tiles.hpp"

namespace ufm_fast {

namespace detail {

/// lambda_W/2 |W|^2 + lambda_b/2 |b|^2
template <class T>
double ridge_of_classifier(const Problem<T>& problem, PointView<const T> p) {
  double value = 0.5 * double(problem.lambda_W) * squared_norm(p.W.data, problem.K * problem.d);
  if (problem.bias) value += 0.5 * double(problem.lambda_b) * squared_norm(p.b, problem.K);
  return value;
}

/// sum over the given rows of ridges[m]/2 |h_m|^2
template <class T>
double ridge_of_features(const Problem<T>& problem, Index first, Matrix<const T> H) {
  double value = 0;
  for (Index i = 0; i < H.rows; ++i) {
    value += 0.5 * double(problem.ridges[first + i]) * squared_norm(H.row(i), problem.d);
  }
  return value;
}

/// out = ridges[m] h_m, row by row
template <class T>
void scaled_rows(const Problem<T>& problem, Index first, Matrix<const T> H, Matrix<T> out) {
  for (Index i = 0; i < H.rows; ++i) {
    Vector<T>(out.row(i), problem.d) = problem.ridges[first + i] * ConstVector<T>(H.row(i), problem.d);
  }
}

inline double total(const std::vector<double>& parts) {
  double sum = 0;
  for (double part : parts) sum += part;
  return sum;
}

/// The gradient with respect to b from its sum in double: zero without bias.
template <class T>
void write_bias_gradient(const Problem<T>& problem, const double* sum, T* b) {
  Vector<T> out(b, problem.K);
  if (problem.bias) {
    out = ConstVector<double>(sum, problem.K).template cast<T>();
  } else {
    out.setZero();
  }
}

/// Sums over the samples, gathered by several workers: the classifier's (K, d) part and the bias's (K,) part. Worker 0
/// writes straight into the result, the others into arrays of their own, added in order at the end, so that the same
/// number of workers gives the same bits.
template <class T>
class ClassifierSum {
 public:
  ClassifierSum(const Problem<T>& problem, Matrix<T> W, T* b, int workers)
      : problem_(problem), W_(W), b_(b), parts_(workers), sums_(workers) {}

  struct Part {
    Matrix<T> W;
    double* b;
  };

  /// The worker's own part, starting from lambda_W W and lambda_b b (worker 0) or from zero.
  Part start(int worker, PointView<const T> p) {
    const Index size = problem_.K * problem_.d;
    std::vector<double>& sum = sums_[worker];
    sum.assign(static_cast<std::size_t>(problem_.K), 0.0);
    if (worker == 0) {
      Vector<T>(W_.data, size) = problem_.lambda_W * ConstVector<T>(p.W.data, size);
      if (problem_.bias) {
        for (Index k = 0; k < problem_.K; ++k) sum[k] = double(problem_.lambda_b) * double(p.b[k]);
      }
      return {W_, sum.data()};
    }
    parts_[worker] = std::make_unique<Workspace<T>>(size);
    T* data = parts_[worker]->data();
    Vector<T>(data, size).setZero();
    return {Matrix<T>(data, problem_.K, problem_.d), sum.data()};
  }

  void finish(const Execution& execution) {
    const int workers = static_cast<int>(parts_.size());
    for (int part = 1; part < workers; ++part) {
      for (Index k = 0; k < problem_.K; ++k) sums_[0][k] += sums_[part][k];
    }
    write_bias_gradient(problem_, sums_[0].data(), b_);
    if (workers == 1) return;
    const Index size = problem_.K * problem_.d;
    parallel_ranges(size, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
      for (int part = 1; part < workers; ++part) {
        Vector<T>(W_.data + first, last - first) += ConstVector<T>(parts_[part]->data() + first, last - first);
      }
    });
  }

 private:
  const Problem<T>& problem_;
  Matrix<T> W_;
  T* b_;
  std::vector<std::unique_ptr<Workspace<T>>> parts_;
  std::vector<std::vector<double>> sums_;
};

}  // namespace detail

/// f(W, H, b): one product of K d M multiplications. Memory: one tile of logits per thread.
template <class T>
double loss(const Problem<T>& problem, PointView<const T> p, const Execution& execution) {
  const int workers = row_workers(problem, execution);
  std::vector<double> values(workers, 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Workspace<T> tile(tallest_tile(problem, first, last) * problem.K);
    std::vector<double> ignored(static_cast<std::size_t>(problem.K), 0.0);
    double value = detail::ridge_of_features(problem, first, p.H.block(first, last - first));
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<T> Z(tile.data(), count, problem.K);
      gemm<T>(Op::none, Op::transpose, 1, p.H.block(begin, count), p.W, 0, Z);
      value += residual_rows(problem, begin, p.b, Z, ignored.data());
    });
    values[worker] = value;
  });
  return detail::ridge_of_classifier(problem, p) + detail::total(values);
}

/// f and its gradient: three products,
///
///     Z = H W^T,   grad_H = G W + ridges H,   grad_W = G^T H + lambda_W W,   grad_b = sum of rows + lambda_b b,
///
/// where row m of G is the gradient with respect to W h_m. Without bias grad_b is zero. Memory: per thread one tile of
/// logits and, from the second thread on, one classifier.
template <class T>
double loss_and_gradient(const Problem<T>& problem, PointView<const T> p, PointView<T> gradient,
                         const Execution& execution) {
  const int workers = row_workers(problem, execution);
  std::vector<double> values(workers, 0.0);
  detail::ClassifierSum<T> sum(problem, gradient.W, gradient.b, workers);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    const Workspace<T> tile(tallest_tile(problem, first, last) * problem.K);
    const auto part = sum.start(worker, p);
    double value = detail::ridge_of_features(problem, first, p.H.block(first, last - first));
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<const T> H = p.H.block(begin, count);
      const Matrix<T> G(tile.data(), count, problem.K);
      gemm<T>(Op::none, Op::transpose, 1, H, p.W, 0, G);
      value += residual_rows(problem, begin, p.b, G, part.b);
      gemm<T>(Op::transpose, Op::none, 1, G, H, 1, part.W);
      const Matrix<T> grad_H = gradient.H.block(begin, count);
      detail::scaled_rows(problem, begin, H, grad_H);
      gemm<T>(Op::none, Op::none, 1, G, p.W, 1, grad_H);
    });
    values[worker] = value;
  });
  sum.finish(execution);
  return detail::ridge_of_classifier(problem, p) + detail::total(values);
}

/// The data term at explicit scores Z (M, K), logits scales[m] Z_m + b: its value; G = its gradient with respect to Z
/// (M, K), which may be Z itself; and its gradient with respect to b (K,), zero without bias. No products.
template <class T>
double data_term(const Problem<T>& problem, Matrix<const T> Z, const T* b, Matrix<T> G, T* grad_b,
                 const Execution& execution) {
  const int workers = row_workers(problem, execution);
  std::vector<double> values(workers, 0.0);
  std::vector<double> sums(static_cast<std::size_t>(workers * problem.K), 0.0);
  parallel_ranges(problem.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
    for_each_tile(problem, first, last, worker, stop, [&](Index begin, Index count) {
      const Matrix<T> tile = G.block(begin, count);
      for (Index i = 0; i < count; ++i) {
        Vector<T>(tile.row(i), problem.K) = ConstVector<T>(Z.row(begin + i), problem.K);
      }
      values[worker] += residual_rows(problem, begin, b, tile, sums.data() + worker * problem.K);
    });
  });
  for (int worker = 1; worker < workers; ++worker) {
    for (Index k = 0; k < problem.K; ++k) sums[k] += sums[worker * problem.K + k];
  }
  detail::write_bias_gradient(problem, sums.data(), grad_b);
  return detail::total(values);
}

}  // namespace ufm_fast
