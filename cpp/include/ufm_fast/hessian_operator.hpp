#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "hessian.hpp"
#include "vectors.hpp"

namespace ufm_fast {

/// The Hessian of a problem at a point for the eigen-solver: products, deflation of rotations, preconditioner. Vectors
/// are flat: W, H and, where there is a bias, b.
///
/// Turning the features, W R and H R with R in O(d), does not change f, so at a critical point the tangents (W S, H S),
/// S skew, are in the null space; elsewhere the operator is the compression to their complement. They need no storage:
/// with M = W^T W + H^T H diagonal (the caller turns the features so), the component of (V_W, V_H) along them has S_ij
/// = (C_ij - C_ji) / (M_ii + M_jj), C = W^T V_W + H^T V_H.
///
/// The preconditioner replaces the second derivative of the data term in the logits by a number w, its mean over wrong
/// classes, and the gradient matrix by -tau U_H U_W^T, which it is on the column spaces of the factors of a critical
/// point. Then, in the orthonormal bases U_W, U_H of these spaces, the Hessian falls apart into 4 x 4 blocks for
/// (W_ij, W_ji, H_ij, H_ji); outside them it is taken as diagonal.
///
/// Memory: where `keep` is true, one (M, K) array, which saves one product in seven.
template <class T>
class HessianOperator {
 public:
  HessianOperator(const Problem<T>& problem, PointView<const T> p, bool keep, bool deflate, const Execution& execution)
      : problem_(problem), p_(p), deflate_(deflate), d_(problem.d) {
    if (keep) {
      kept_ = std::make_unique<Workspace<T>>(problem.M * problem.K);
      ufm_fast::keep(problem, p, kept(), execution);
    }
    set_curvatures();
  }

  Index size() const { return (problem_.K + problem_.M) * d_ + (problem_.bias ? problem_.K : 0); }

  void apply(Matrix<const T> X, Matrix<T> Y, const Execution& execution) const {
    const Workspace<T> no_bias(problem_.K);
    const Matrix<const T> kept = kept_ ? Matrix<const T>(this->kept()) : Matrix<const T>(nullptr, 0, 0);
    std::vector<PointView<const T>> directions;
    std::vector<PointView<T>> images;
    for (Index i = 0; i < X.rows; ++i) {
      directions.push_back(view(X.row(i), no_bias.data()));
      images.push_back(view(Y.row(i), no_bias.data()));
    }
    hessian_products(problem_, p_, directions, kept, images, execution);
    project(Y, execution);  // changes something only where the point is not critical
  }

  void project(Matrix<T> X, const Execution& execution) const {
    if (!deflate_) return;
    const Workspace<T> space(d_ * d_);
    const Matrix<T> S(space.data(), d_, d_);
    for (Index i = 0; i < X.rows; ++i) {
      const PointView<T> v = view(X.row(i), nullptr);
      inner_sums(v, S, execution);
      for (Index j = 0; j < d_; ++j) {
        S.row(j)[j] = 0;
        for (Index k = 0; k < j; ++k) {
          const T size = squares_W_[j] + squares_W_[k] + squares_H_[j] + squares_H_[k];
          const T s = size > T(0) ? (S.row(j)[k] - S.row(k)[j]) / size : T(0);
          S.row(j)[k] = s;
          S.row(k)[j] = -s;
        }
      }
      parallel_gemm<T>(Op::none, Op::none, -1, p_.W, S, 1, v.W, execution);
      parallel_gemm<T>(Op::none, Op::none, -1, p_.H, S, 1, v.H, execution);
    }
  }

  void precondition(Matrix<T> R, const T* theta, const Execution& execution) const {
    const Workspace<T> space(2 * d_ * d_);
    const Matrix<T> a(space.data(), d_, d_), h(space.data() + d_ * d_, d_, d_);
    for (Index i = 0; i < R.rows; ++i) {
      const T shift = std::max(floor_, -theta[i]);
      const PointView<T> r = view(R.row(i), nullptr);
      if (deflate_) {
        parallel_gemm<T>(Op::transpose, Op::none, 1, p_.W, r.W, 0, a, execution);
        parallel_gemm<T>(Op::transpose, Op::none, 1, p_.H, r.H, 0, h, execution);
        solve_blocks(a, h, shift, execution);
      }
      scale_columns(r.W, squares_H_, problem_.lambda_W + shift);
      scale_columns(r.H, squares_W_, problem_.ridges[0] + shift);
      if (deflate_) {
        parallel_gemm<T>(Op::none, Op::none, 1, p_.W, a, 1, r.W, execution);
        parallel_gemm<T>(Op::none, Op::none, 1, p_.H, h, 1, r.H, execution);
      }
      if (problem_.bias) Vector<T>(r.b, problem_.K) /= bias_curvature_ + shift;
    }
  }

 private:
  const Problem<T>& problem_;
  PointView<const T> p_;
  bool deflate_;
  Index d_;
  std::unique_ptr<Workspace<T>> kept_;
  std::vector<T> squares_W_, squares_H_;  ///< of the columns
  T weight_, bias_curvature_, floor_;

  Matrix<T> kept() const { return {kept_->data(), problem_.M, problem_.K}; }

  PointView<T> view(T* x, T* no_bias) const {
    T* H = x + problem_.K * d_;
    T* b = problem_.bias ? H + problem_.M * d_ : no_bias;
    return {{x, problem_.K, d_}, {H, problem_.M, d_}, b};
  }
  PointView<const T> view(const T* x, T* no_bias) const { return view(const_cast<T*>(x), no_bias); }

  /// C = W^T V_W + H^T V_H
  void inner_sums(PointView<const T> v, Matrix<T> C, const Execution& execution) const {
    parallel_gemm<T>(Op::transpose, Op::none, 1, p_.W, v.W, 0, C, execution);
    parallel_gemm<T>(Op::transpose, Op::none, 1, p_.H, v.H, 1, C, execution);
  }

  void set_curvatures() {
    const auto squares = [this](Matrix<const T> a) {
      std::vector<T> sums(static_cast<std::size_t>(d_), T(0));
      for (Index i = 0; i < a.rows; ++i) Vector<T>(sums.data(), d_) += ConstVector<T>(a.row(i), d_).square();
      return sums;
    };
    squares_W_ = squares(p_.W);
    squares_H_ = squares(p_.H);
    const T lambda_H = problem_.ridges[0];
    floor_ = T(0.2) * problem_.lambda_W * lambda_H / (problem_.lambda_W + lambda_H);

    // sums over samples of weights scales^2 p (1 - p) and of weights p (1 - p), wrong classes only
    T scaled = 0, plain = 0;
    if (std::holds_alternative<SquaredError<T>>(problem_.loss)) {
      for (Index m = 0; m < problem_.M; ++m) {
        scaled += problem_.weights[m] * problem_.scales[m] * problem_.scales[m];
        plain += problem_.weights[m];
      }
      weight_ = scaled / T(problem_.M);
      bias_curvature_ = plain;
    } else {
      const Workspace<T> row(problem_.K);
      const LogitBias<T> b(problem_, p_.b);
      for (Index m = 0; m < problem_.M; ++m) {
        Vector<T> p(row.data(), problem_.K);
        if (kept_) {
          p = ConstVector<T>(kept().row(m), problem_.K);
        } else {
          gemm<T>(Op::none, Op::transpose, 1, p_.H.block(m, 1), p_.W, 0, Matrix<T>(row.data(), 1, problem_.K));
          std::visit(
              [&](const auto& loss) { loss.keep(row.data(), affine_of(problem_, m, b), problem_.labels[m], nullptr); },
              problem_.loss);
        }
        p[problem_.labels[m]] = T(0);
        const T sum = (p * (T(1) - p)).sum() * problem_.weights[m];
        scaled += sum * problem_.scales[m] * problem_.scales[m];
        plain += sum;
      }
      const T others = T(std::max<Index>(1, problem_.K - 1));
      weight_ = scaled / (T(problem_.M) * others);
      bias_curvature_ = 2 * plain / T(problem_.K);
    }
    bias_curvature_ += problem_.lambda_b;
  }

  /// V_ij / (weight squares_j + ridge)
  void scale_columns(Matrix<T> V, const std::vector<T>& squares, T ridge) const {
    const Eigen::Array<T, Eigen::Dynamic, 1> inverse = (weight_ * ConstVector<T>(squares.data(), d_) + ridge).inverse();
    for (Index i = 0; i < V.rows; ++i) Vector<T>(V.row(i), d_) *= inverse;
  }

  /// Given a = W^T R_W and h = H^T R_H: replaces them by what has to be added, through W a and H h, to the diagonal
  /// solution to make it the block solution.
  void solve_blocks(Matrix<T> a, Matrix<T> h, T shift, const Execution& execution) const {
    const int workers = worker_count(d_ / 32 + 1, execution.threads);
    parallel_ranges(workers, workers, execution.poll, [&](int, Index first, Index, Interruption&) {
      for (Index i = first; i < d_; i += workers) solve_row(a, h, shift, i);
    });
  }

  /// The blocks of columns i and j >= i.
  void solve_row(Matrix<T> a, Matrix<T> h, T shift, Index i) const {
    using Block = Eigen::Matrix<T, 4, 4>;
    using Four = Eigen::Matrix<T, 4, 1>;
    const T ridge_W = problem_.lambda_W + shift, ridge_H = problem_.ridges[0] + shift;
    const T tau = std::sqrt(problem_.lambda_W * problem_.ridges[0]);
    for (Index j = i; j < d_; ++j) {
      const T wi = std::sqrt(squares_W_[i]), wj = std::sqrt(squares_W_[j]);
      const T hi = std::sqrt(squares_H_[i]), hj = std::sqrt(squares_H_[j]);
      if (!(wi * wj * hi * hj > T(0))) {
        a.row(i)[j] = a.row(j)[i] = h.row(i)[j] = h.row(j)[i] = T(0);
        continue;
      }
      // coordinates (W_ij, W_ji, H_ij, H_ji) in the bases U_W, U_H: logits move by w_i H_ji + h_j W_ij and so on
      Block block;
      block.setZero();
      block.diagonal() << weight_ * hj * hj + ridge_W, weight_ * hi * hi + ridge_W, weight_ * wj * wj + ridge_H,
          weight_ * wi * wi + ridge_H;
      block(0, 2) = block(2, 0) = block(1, 3) = block(3, 1) = -tau;
      block(0, 3) = block(3, 0) = weight_ * hj * wi;
      block(1, 2) = block(2, 1) = weight_ * hi * wj;
      const Four right(a.row(i)[j] / wi, a.row(j)[i] / wj, h.row(i)[j] / hi, h.row(j)[i] / hj);
      Four x;
      if (i == j) {
        Eigen::Matrix<T, 2, 2> small;
        small << block(0, 0), block(0, 3) - tau, block(0, 3) - tau, block(2, 2);
        const Eigen::Matrix<T, 2, 1> y = small.llt().solve(Eigen::Matrix<T, 2, 1>(right[0], right[2]));
        x << y[0], y[0], y[1], y[1];
      } else {
        x = block.llt().solve(right);
      }
      a.row(i)[j] = (x[0] - right[0] / block(0, 0)) / wi;
      a.row(j)[i] = (x[1] - right[1] / block(1, 1)) / wj;
      h.row(i)[j] = (x[2] - right[2] / block(2, 2)) / hi;
      h.row(j)[i] = (x[3] - right[3] / block(3, 3)) / hj;
    }
  }
};

}  // namespace ufm_fast
