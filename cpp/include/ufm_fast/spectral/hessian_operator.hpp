#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "ufm_fast/blas/vectors.hpp"
#include "ufm_fast/model/hessian.hpp"
#include "ufm_fast/spectral/linear_operator.hpp"
#include "ufm_fast/spectral/orthonormal_rows.hpp"

namespace ufm_fast {

/// The Hessian of a problem at a point for the eigen-solver: products, deflation of rotations, preconditioner. Vectors
/// are flat: W, H and, where there is a bias, b.
///
/// Rotations of the features, W R and H R with R in O(d), do not change f. So at a critical point the tangents (W S,
/// H S), S skew, are in the null space of the Hessian. With `deflate` the operator is the Hessian projected onto the
/// complement of these tangents. They need no storage: the caller rotates the features so that M = W^T W + H^T H is
/// diagonal, and then the component of (V_W, V_H) along the tangents is that of S_ij = (C_ij - C_ji) / (M_ii + M_jj),
/// where C = W^T V_W + H^T V_H.
///
/// The preconditioner is the inverse of a simpler Hessian. In that the second derivative of the data term in the logits
/// is a number w, the mean of the diagonal entries away from the labels, and the gradient matrix is -tau U_H U_W^T,
/// which is true on the column spaces of the factors of a critical point; all ridges are equal. Then, in the
/// orthonormal bases U_W, U_H of these spaces, the Hessian consists of 4 x 4 blocks for (W_ij, W_ji, H_ij, H_ji).
/// Outside these spaces it is taken as diagonal.
///
/// Memory: where `store` is true, one (M, K) array, which saves one product in seven.
template <class T>
class HessianOperator final : public LinearOperator<T> {
 public:
  HessianOperator(const Problem<T>& problem, Same<PointView<const T>> p, bool store = false, bool deflate = false,
                  const Execution& execution = {})
      : problem_(problem), p_(p), deflate_(deflate), d_(problem.d) {
    assert_fits<T>(problem, p);
    if (!has_constant_ridges()) detail::refuse_problem("ridges must be equal: the preconditioner takes the first");
    eigen_assert((!deflate || has_diagonal_gram(execution)) && "W^T W + H^T H is diagonal: deflation relies on it");
    if (store) {
      states_ = std::make_unique<Workspace<T>>(problem.M * problem.loss->states());
      row_states(problem, p, states(), execution);
    }
    set_squares(execution);
  }

  Index size() const override { return problem_.size(); }

  void apply(MatrixView<const T> X, MatrixView<T> Y, const Execution& execution) const override {
    const auto states = states_ ? MatrixView<const T>(this->states()) : MatrixView<const T>();
    std::vector<PointView<const T>> directions;
    std::vector<PointView<T>> images;
    for (Index i = 0; i < X.rows; ++i) {
      directions.push_back(problem_.point(X.row(i)));
      images.push_back(problem_.point(Y.row(i)));
    }
    hessian_products(problem_, p_, directions, states, images, execution);
    project(Y, execution);  // changes something only where the point is not critical
  }

  void project(MatrixView<T> X, const Execution& execution) const override {
    if (!deflate_) return;
    const Workspace<T> space(d_ * d_);
    const MatrixView<T> S(space.data(), d_, d_);
    for (Index i = 0; i < X.rows; ++i) {
      const PointView<T> v = problem_.point(X.row(i));
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

  void precondition(MatrixView<T> R, const T* theta, const Execution& execution) const override {
    const Workspace<T> space(2 * d_ * d_);
    const MatrixView<T> a(space.data(), d_, d_), h(space.data() + d_ * d_, d_, d_);
    for (Index i = 0; i < R.rows; ++i) {
      const T shift = std::max(floor_, -theta[i]);
      const PointView<T> r = problem_.point(R.row(i));
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
      if (problem_.bias) Vector<T>(r.b, problem_.biases()) /= bias_curvature_ + shift;
    }
  }

 private:
  const Problem<T>& problem_;
  PointView<const T> p_;
  bool deflate_;
  Index d_;
  std::unique_ptr<Workspace<T>> states_;
  std::vector<T> squares_W_, squares_H_;  ///< of the columns
  T weight_, bias_curvature_, floor_;

  MatrixView<T> states() const { return {states_->data(), problem_.M, problem_.loss->states()}; }

  /// C = W^T V_W + H^T V_H
  void inner_sums(PointView<const T> v, MatrixView<T> C, const Execution& execution) const {
    parallel_gemm<T>(Op::transpose, Op::none, 1, p_.W, v.W, 0, C, execution);
    parallel_gemm<T>(Op::transpose, Op::none, 1, p_.H, v.H, 1, C, execution);
  }

  bool has_constant_ridges() const {
    const std::vector<T>& ridges = problem_.ridges;
    return std::all_of(ridges.begin(), ridges.end(), [&](T ridge) { return ridge == ridges[0]; });
  }

  /// Whether W^T W + H^T H is diagonal but for rounding.
  bool has_diagonal_gram(const Execution& execution) const {
    detail::Dense<T> gram(d_, d_);
    inner_sums(p_, {gram.data(), d_, d_}, execution);
    const T largest = gram.diagonal().maxCoeff();
    gram.diagonal().setZero();
    return gram.cwiseAbs().maxCoeff() <= std::sqrt(std::numeric_limits<T>::epsilon()) * largest;
  }

  void set_squares(const Execution& execution) {
    const auto squares = [this](MatrixView<const T> a) {
      std::vector<T> sums(static_cast<std::size_t>(d_), T(0));
      for (Index i = 0; i < a.rows; ++i) Vector<T>(sums.data(), d_) += ConstVector<T>(a.row(i), d_).square();
      return sums;
    };
    squares_W_ = squares(p_.W);
    squares_H_ = squares(p_.H);
    const T lambda_H = problem_.ridges[0];
    floor_ = T(0.2) * problem_.lambda_W * lambda_H / (problem_.lambda_W + lambda_H);

    set_mean_curvatures(execution);
  }

  /// Sets weight_, the mean of the diagonal second derivatives in the scores away from the anchors, and
  /// bias_curvature_, the mean over classes of those in the bias; zero where a loss that is not convex has negative
  /// ones.
  void set_mean_curvatures(const Execution& execution) {
    const Index K = problem_.K, numbers = problem_.loss->states();
    const int workers = row_workers(problem_, execution);
    const RightFactor<T> scores(Op::transpose, p_.W, execution);
    const LogitBias<T> b(problem_, p_.b);
    std::vector<double> in_scores(workers, 0.0), in_bias(workers, 0.0);
    parallel_ranges(problem_.M, workers, execution.poll, [&](int worker, Index first, Index last, Interruption& stop) {
      const Workspace<T> space(tallest_tile(problem_, first, last) * numbers);
      for_each_tile(problem_, first, last, worker, stop, [&](Index begin, Index count) {
        const MatrixView<T> tile(space.data(), count, numbers);
        if (states_) {
          copy<T>(states().block(begin, count), tile);
        } else {
          state_rows(problem_, begin, scores, p_.H.block(begin, count), b, tile);
        }
        problem_.loss->diagonal_curvatures(problem_.data(nullptr), begin, 0, tile);
        for (Index i = 0; i < count; ++i) {
          const Index m = begin + i;
          const double sum = double(sum_of<T>(tile.row(i), K)), weight = double(problem_.weights[m]);
          const double scale = double(problem_.scales[m]);
          const double at_anchor = K > 1 ? double(tile.row(i)[problem_.targets->anchor(m)]) : 0.0;
          in_scores[worker] += weight * scale * scale * (sum - at_anchor);
          in_bias[worker] += weight * sum;
        }
      });
    });
    weight_ = T(std::max(0.0, detail::total(in_scores)) / double(problem_.M * std::max<Index>(1, K - 1)));
    bias_curvature_ = T(std::max(0.0, detail::total(in_bias)) / double(problem_.biases())) + problem_.lambda_b;
  }

  /// V_ij / (weight squares_j + ridge)
  void scale_columns(MatrixView<T> V, const std::vector<T>& squares, T ridge) const {
    const Eigen::Array<T, Eigen::Dynamic, 1> inverse = (weight_ * ConstVector<T>(squares.data(), d_) + ridge).inverse();
    for (Index i = 0; i < V.rows; ++i) Vector<T>(V.row(i), d_) *= inverse;
  }

  /// Given a = W^T R_W and h = H^T R_H, replaces them by such matrices that W a and H h, added to the solution of the
  /// diagonal system, make it the solution of the block system.
  void solve_blocks(MatrixView<T> a, MatrixView<T> h, T shift, const Execution& execution) const {
    const int workers = worker_count(d_ / 32 + 1, execution.threads);
    parallel_ranges(workers, workers, execution.poll, [&](int, Index first, Index, Interruption&) {
      for (Index i = first; i < d_; i += workers) solve_row(a, h, shift, i);
    });
  }

  /// The blocks of columns i and j >= i.
  void solve_row(MatrixView<T> a, MatrixView<T> h, T shift, Index i) const {
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
