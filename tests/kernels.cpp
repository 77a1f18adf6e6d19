// Loss, gradient and Hessian product at shapes that cut the packed kernels' blocks in every way, against dense
// algebra, with assertions on: the kernels assert that they fetch nothing from outside of their operands. Every array
// is as long as it must be, so that a sanitizer sees what is read or written beside it.
#undef NDEBUG
#include <cstdio>
#include <random>
#include <ufm_fast/ufm_fast.hpp>

using namespace ufm_fast;

template <class T>
using Dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Reference = Dense<double>;

template <class T>
struct Arrays {
  Dense<T> W, H, b;

  Arrays(Index K, Index d, Index M) : W(K, d), H(M, d), b(1, K) {}
  PointView<T> view() { return {{W.data(), W.rows(), W.cols()}, {H.data(), H.rows(), H.cols()}, b.data()}; }
  /// Largest difference to a reference, relative to its largest entry.
  double error(const Reference& W_, const Reference& H_, const Reference& b_) const {
    const auto part = [](const Dense<T>& x, const Reference& y) {
      return (x.template cast<double>() - y).cwiseAbs().maxCoeff() / y.cwiseAbs().maxCoeff();
    };
    return std::max({part(W, W_), part(H, H_), part(b, b_)});
  }
};

template <class T>
double largest_error(Index K, Index d, Index M) {
  std::mt19937 generator(1);
  std::normal_distribution<double> normal;
  Arrays<T> p(K, d, M), v(K, d, M), gradient(K, d, M), product(K, d, M);
  for (Dense<T>* x : {&p.W, &p.H, &p.b, &v.W, &v.H, &v.b}) {
    *x = Dense<T>::NullaryExpr(x->rows(), x->cols(), [&] { return T(normal(generator) / std::sqrt(double(d))); });
  }
  const double lambda = 0.01;
  std::vector<Index> labels(M);
  for (Index m = 0; m < M; ++m) labels[m] = (7 * m) % K;
  const Problem<T> problem{K, d, M, labels, std::vector<T>(M, T(1.0 / M)), std::vector<T>(M, T(1)),
                           std::vector<T>(M, T(lambda)), CrossEntropy<T>{K, T(0)}, T(lambda), T(0), true};
  loss_and_gradient<T>(problem, p.view(), gradient.view(), Execution{2});
  hessian_products<T>(problem, p.view(), {v.view()}, {nullptr, 0, 0}, {product.view()}, Execution{2});

  const auto wide = [](const Dense<T>& x) -> Reference { return x.template cast<double>(); };
  const Reference W = wide(p.W), H = wide(p.H), V_W = wide(v.W), V_H = wide(v.H);
  Reference P = ((H * W.transpose()).rowwise() + wide(p.b).row(0)).array().exp();
  for (Index m = 0; m < M; ++m) P.row(m) /= P.row(m).sum();
  Reference G = P / M, dZ = (H * V_W.transpose() + V_H * W.transpose()).rowwise() + wide(v.b).row(0);
  for (Index m = 0; m < M; ++m) {
    G(m, labels[m]) -= 1.0 / M;
    dZ.row(m).array() -= P.row(m).dot(dZ.row(m));
  }
  const Reference dG = P.cwiseProduct(dZ) / M;
  return std::max(
      gradient.error(G.transpose() * H + lambda * W, G * W + lambda * H, G.colwise().sum()),
      product.error(dG.transpose() * H + G.transpose() * V_H + lambda * V_W, dG * W + G * V_W + lambda * V_H,
                    dG.colwise().sum()));
}

int main() {
  double wide = 0, narrow = 0;
  // one block and several; remainders of rows, columns, depth; several panels, slivers, groups of slivers and tiles
  const Index shapes[][3] = {{33, 33, 1},  {50, 50, 50}, {65, 17, 7},  {47, 97, 12},   {130, 9, 25}, {25, 129, 31},
                             {64, 64, 64}, {270, 5, 13}, {5, 270, 13}, {515, 3, 9},    {3, 515, 9},  {1040, 2, 5},
                             {2, 1040, 5}, {37, 401, 6}, {401, 37, 6}, {33, 32, 1601}, {32, 33, 790}};
  for (const auto& [K, d, M] : shapes) {
    wide = std::max(wide, largest_error<double>(K, d, M));
    narrow = std::max(narrow, largest_error<float>(K, d, M));
  }
  std::printf("%.17g %.17g", wide, narrow);
}
