#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "curvature.hpp"

namespace ufm_fast {

/// An approximate inverse Hessian of F(A, B) = data term(B A^T) + tau/2 (|A|^2 + |B|^2) on a problem with a sample a
/// class, for square factors near the class-aligned gauge: for every pair of classes j, k it inverts the 4 x 4 block of
/// (A_jk, B_jk, A_kj, B_kj) in which A and B count as diagonal. The block is
///
///     tau [[m, c_j], [c_j, m]] + tau [[m, c_k], [c_k, m]]
///
/// plus a rank-one term for each of Z_jk and Z_kj, inverted by the Woodbury identity. The vectors a, b (norms of the
/// rows of A and B), and e, o (diagonal and off-diagonal of the inverse of tau [[m, c], [c, m]]) have one entry a
/// class.
template <class T>
struct PairMetric {
  const T* a;
  const T* b;
  const T* e;
  const T* o;
  T least_curvature;

  /// (out_A, out_B) = the inverse times (X, Y), all (K, K). G is the gradient matrix (K, K). One pass over all of them.
  void apply(const Problem<T>& problem, Matrix<const T> G, Matrix<const T> X, Matrix<const T> Y, Matrix<T> out_A,
             Matrix<T> out_B, const Execution& execution) const {
    const Index K = problem.K, tiles = (K + edge - 1) / edge;
    std::vector<std::pair<Index, Index>> pairs;
    for (Index i = 0; i < tiles; ++i) {
      for (Index j = i; j < tiles; ++j) pairs.emplace_back(i * edge, j * edge);
    }
    const Index count = static_cast<Index>(pairs.size());
    const int workers = worker_count((count + pairs_per_worker - 1) / pairs_per_worker, execution.threads);
    parallel_ranges(count, workers, execution.poll, [&](int, Index first, Index last, Interruption&) {
      Tile x, y, w, x_back, y_back, w_back;
      for (Index pair = first; pair < last; ++pair) {
        const auto [i, j] = pairs[pair];
        const Block there{i, j, std::min(edge, K - i), std::min(edge, K - j)}, back{j, i, there.cols, there.rows};
        load(x, X, there);
        load(y, Y, there);
        load(w_back, problem, G, there);
        load(x_back, X, back);
        load(y_back, Y, back);
        load(w, problem, G, back);
        transpose(x_back, back);
        transpose(y_back, back);
        transpose(w, back);
        solve(there, x, y, w, x_back, y_back, w_back);
        transpose(x_back, there);
        transpose(y_back, there);
        store(x, out_A, there);
        store(y, out_B, there);
        store(x_back, out_A, back);
        store(y_back, out_B, back);
      }
    });
  }

 private:
  static constexpr Index edge = 64, pairs_per_worker = 4;

  struct Block {
    Index row, col, rows, cols;
  };
  using Tile = Eigen::Array<T, edge, edge, Eigen::RowMajor>;

  static void load(Tile& tile, Matrix<const T> from, Block at) {
    for (Index i = 0; i < at.rows; ++i) {
      Vector<T>(tile.row(i).data(), at.cols) = ConstVector<T>(from.row(at.row + i) + at.col, at.cols);
    }
  }
  static void store(const Tile& tile, Matrix<T> to, Block at) {
    for (Index i = 0; i < at.rows; ++i) {
      Vector<T>(to.row(at.row + i) + at.col, at.cols) = ConstVector<T>(tile.row(i).data(), at.cols);
    }
  }
  static void transpose(Tile& tile, Block at) {
    const Tile copy = tile;
    tile.topLeftCorner(at.cols, at.rows) = copy.topLeftCorner(at.rows, at.cols).transpose();
  }

  /// The curvature in Z at a block.
  void load(Tile& tile, const Problem<T>& problem, Matrix<const T> G, Block at) const {
    for (Index i = 0; i < at.rows; ++i) {
      const Index m = at.row + i;
      diagonal_curvature(problem, m, at.col, at.col + at.cols, G.row(m) + at.col, tile.row(i).data());
      Vector<T> row(tile.row(i).data(), at.cols);
      row = (row * (problem.weights[m] * problem.scales[m] * problem.scales[m])).max(least_curvature);
    }
  }

  /// Entries (i, j) of X, Y and of the curvature in Z_ji, and those of their transposes. As Z = B A^T, a change of Z_ji
  /// comes from A_ij and B_ji.
  void solve(Block at, Tile& x, Tile& y, const Tile& w, Tile& x_back, Tile& y_back, const Tile& w_back) const {
    const auto columns = [&](const T* vector) { return ConstVector<T>(vector + at.col, at.cols).transpose(); };
    const auto bj = columns(b), aj = columns(a), ej = columns(e), oj = columns(o);
    for (Index k = 0; k < at.rows; ++k) {
      const T ai = a[at.row + k], bi = b[at.row + k], ei = e[at.row + k], oi = o[at.row + k];
      auto X = x.row(k).head(at.cols), Y = y.row(k).head(at.cols);
      auto X_back = x_back.row(k).head(at.cols), Y_back = y_back.row(k).head(at.cols);
      using Row = Eigen::Array<T, 1, Eigen::Dynamic, Eigen::RowMajor, 1, edge>;
      const Row D = w.row(k).head(at.cols).inverse() + ei * bj.square() + ej * (ai * ai);
      const Row D_back = w_back.row(k).head(at.cols).inverse() + ej * (bi * bi) + ei * aj.square();
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
