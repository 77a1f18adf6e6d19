#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "ufm_fast/blas/transpose.hpp"
#include "ufm_fast/model/curvature.hpp"

namespace ufm_fast {

/// out (rows,) = the norms of the rows of X.
template <class T>
void row_norms(MatrixView<const T> X, T* out, const Execution& execution) {
  const int workers = worker_count((X.rows + 63) / 64, execution.threads);
  parallel_ranges(X.rows, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
    for (Index i = first; i < last; ++i) out[i] = T(std::sqrt(squared_norm(X.row(i), X.cols)));
  });
}

/// Whether row m is the only one of class m, for all classes.
template <class T>
bool has_one_row_a_class(const Problem<T>& problem) {
  for (Index m = 0; m < problem.M; ++m) {
    if (problem.targets->anchor(m) != m) return false;
  }
  return problem.M == problem.K;
}

/// An approximate inverse Hessian of F(A, B) = data term(B A^T) + tau/2 (|A|^2 + |B|^2) on a problem with a sample a
/// class, for square factors near the class-aligned gauge: for every pair of classes j, k it inverts the 4 x 4 block of
/// (A_jk, B_jk, A_kj, B_kj) in which A and B count as diagonal. The block is
///
///     tau [[m, c_j], [c_j, m]] + tau [[m, c_k], [c_k, m]]
///
/// plus a rank-one term for each of Z_jk and Z_kj, inverted by the Woodbury identity. The vectors a, b (`row_norms` of
/// A and B), and e, o (diagonal and off-diagonal of the inverse of tau [[m, c], [c, m]]) have one entry a class.
template <class T>
struct PairMetric {
  const T* a;
  const T* b;
  const T* e;
  const T* o;
  T least_curvature;

  /// (out_A, out_B) = the inverse times (X, Y), all (K, K). G is the gradient matrix (K, K). One pass over all of them.
  void apply(const Problem<T>& problem, MatrixView<const T> G, MatrixView<const T> X, MatrixView<const T> Y,
             MatrixView<T> out_A, MatrixView<T> out_B, const Execution& execution) const {
    assert_fits<T>(problem, G);
    if (!has_one_row_a_class(problem)) detail::refuse_problem("problem must have one sample a class, in order");
    const Index K = problem.K, tiles = (K + edge - 1) / edge;
    std::vector<std::pair<Index, Index>> pairs;
    for (Index i = 0; i < tiles; ++i) {
      for (Index j = i; j < tiles; ++j) pairs.emplace_back(i * edge, j * edge);
    }
    const Index count = static_cast<Index>(pairs.size());
    const int workers = worker_count((count + pairs_per_worker - 1) / pairs_per_worker, execution.threads);
    parallel_ranges(count, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
      Tile x, y, w, x_back, y_back, w_back, curvature;
      for (Index pair = first; pair < last; ++pair) {
        const auto [i, j] = pairs[pair];
        const Index rows = std::min(edge, K - i), cols = std::min(edge, K - j);
        copy<T>(block(X, i, j, rows, cols), view(x, rows, cols));
        copy<T>(block(Y, i, j, rows, cols), view(y, rows, cols));
        transpose<T>(block(X, j, i, cols, rows), view(x_back, rows, cols));
        transpose<T>(block(Y, j, i, cols, rows), view(y_back, rows, cols));
        curvature_in_Z(problem, G, i, j, view(w_back, rows, cols));
        curvature_in_Z(problem, G, j, i, view(curvature, cols, rows));
        transpose<T>(view(curvature, cols, rows), view(w, rows, cols));
        solve(i, j, rows, cols, x, y, w, x_back, y_back, w_back);
        copy<T>(view(x, rows, cols), block(out_A, i, j, rows, cols));
        copy<T>(view(y, rows, cols), block(out_B, i, j, rows, cols));
        transpose<T>(view(x_back, rows, cols), block(out_A, j, i, cols, rows));
        transpose<T>(view(y_back, rows, cols), block(out_B, j, i, cols, rows));
      }
    });
  }

 private:
  static constexpr Index edge = 64, pairs_per_worker = 4;

  using Tile = Eigen::Array<T, edge, edge, Eigen::RowMajor>;

  template <class U>
  static MatrixView<U> block(MatrixView<U> matrix, Index row, Index col, Index rows, Index cols) {
    return {matrix.row(row) + col, rows, cols, matrix.stride};
  }
  static MatrixView<T> view(Tile& tile, Index rows, Index cols) { return {tile.data(), rows, cols, edge}; }

  /// The curvature in Z at the block of `out` that starts at (row, col).
  void curvature_in_Z(const Problem<T>& problem, MatrixView<const T> G, Index row, Index col, MatrixView<T> out) const {
    diagonal_curvatures<T>(problem, row, col, block(G, row, col, out.rows, out.cols), out);
    for (Index i = 0; i < out.rows; ++i) {
      const Index m = row + i;
      Vector<T> values(out.row(i), out.cols);
      values = (values * (problem.weights[m] * problem.scales[m] * problem.scales[m])).max(least_curvature);
    }
  }

  /// Entries (i, j) of X, Y and of the curvature in Z_ji, and those of their transposes. As Z = B A^T, a change of Z_ji
  /// comes from A_ij and B_ji.
  void solve(Index row, Index col, Index rows, Index cols, Tile& x, Tile& y, const Tile& w, Tile& x_back, Tile& y_back,
             const Tile& w_back) const {
    const auto columns = [&](const T* vector) { return ConstVector<T>(vector + col, cols).transpose(); };
    const auto bj = columns(b), aj = columns(a), ej = columns(e), oj = columns(o);
    for (Index k = 0; k < rows; ++k) {
      const T ai = a[row + k], bi = b[row + k], ei = e[row + k], oi = o[row + k];
      auto X = x.row(k).head(cols), Y = y.row(k).head(cols);
      auto X_back = x_back.row(k).head(cols), Y_back = y_back.row(k).head(cols);
      using Row = Eigen::Array<T, 1, Eigen::Dynamic, Eigen::RowMajor, 1, edge>;
      const Row D = w.row(k).head(cols).inverse() + ei * bj.square() + ej * (ai * ai);
      const Row D_back = w_back.row(k).head(cols).inverse() + ej * (bi * bi) + ei * aj.square();
      const Row O = oi * aj * bj + oj * (ai * bi);
      const Row t = (ei * X + oi * Y) * bj + ai * (ej * Y_back + oj * X_back);
      const Row t_back = (ej * X_back + oj * Y_back) * bi + aj * (ei * Y + oi * X);
      const Row scale = (D * D_back - O.square()).inverse();
      const Row s = (D_back * t - O * t_back) * scale, s_back = (D * t_back - O * t) * scale;
      const Row dX = X - bj * s, dY = Y - aj * s_back, dX_back = X_back - bi * s_back, dY_back = Y_back - ai * s;
      X = ei * dX + oi * dY;
      Y = ei * dY + oi * dX;
      X_back = ej * dX_back + oj * dY_back;
      Y_back = ej * dY_back + oj * dX_back;
    }
  }
};

}  // namespace ufm_fast
