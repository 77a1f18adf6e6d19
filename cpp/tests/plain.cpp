#include "plain.hpp"

namespace ufm_fast::tests {

namespace {

Wide softmax(const Wide& Z) {
  Wide P = (Z.colwise() - Z.rowwise().maxCoeff()).array().exp();
  for (Index m = 0; m < P.rows(); ++m) P.row(m) /= P.row(m).sum();
  return P;
}

Wide column(const std::vector<double>& x) { return Eigen::Map<const Wide>(x.data(), Index(x.size()), 1); }

}  // namespace

Wide product(const Wide& X, const Wide& Y) { return X * Y; }

Plain::Plain(const Problem<double>& problem, const Arrays<double>& p, const Wide& targets, PlainLoss loss)
    : K_(problem.K),
      squares_(loss.squares),
      bias_(problem.bias),
      lambda_W_(problem.lambda_W),
      lambda_b_(problem.lambda_b),
      W_(p.W),
      H_(p.H),
      b_(p.b),
      weights_(column(problem.weights)),
      scales_(column(problem.scales)),
      ridges_(column(problem.ridges)) {
  targets_ = (1 - loss.smoothing) * targets.array() + loss.smoothing / double(K_);
  Z_ = logits(product(H_, W_.transpose()), b_);
  P_ = squares_ ? Z_ : softmax(Z_);
  G_ = weights_.asDiagonal() * (P_ - targets_);
}

double Plain::loss() const {
  double data = 0;
  for (Index m = 0; m < Z_.rows(); ++m) {
    const double top = Z_.row(m).maxCoeff();
    const double l = squares_ ? 0.5 * (Z_.row(m) - targets_.row(m)).squaredNorm()
                              : top + std::log((Z_.row(m).array() - top).exp().sum()) - Z_.row(m).dot(targets_.row(m));
    data += weights_(m, 0) * l + ridges_(m, 0) / 2 * H_.row(m).squaredNorm();
  }
  return data + lambda_W_ / 2 * W_.squaredNorm() + (bias_ ? lambda_b_ / 2 * b_.squaredNorm() : 0.0);
}

Arrays<double> Plain::gradient() const {
  const Wide G = scales_.asDiagonal() * G_;
  return {product(G.transpose(), H_) + lambda_W_ * W_, product(G, W_) + ridges_.asDiagonal() * H_, bias_part(G_, b_)};
}

Arrays<double> Plain::hessian_product(const Arrays<double>& v) const {
  Wide dP = logits(product(H_, v.W.transpose()) + product(v.H, W_.transpose()), v.b);
  if (!squares_) {
    for (Index m = 0; m < dP.rows(); ++m) dP.row(m).array() -= P_.row(m).dot(dP.row(m));
    dP = P_.cwiseProduct(dP).eval();
  }
  const Wide plain = weights_.asDiagonal() * dP, dG = scales_.asDiagonal() * plain, G = scales_.asDiagonal() * G_;
  return {product(dG.transpose(), H_) + product(G.transpose(), v.H) + lambda_W_ * v.W,
          product(dG, W_) + product(G, v.W) + ridges_.asDiagonal() * v.H, bias_part(plain, v.b)};
}

Wide Plain::logits(const Wide& scores, const Wide& b) const {
  Wide Z = scales_.asDiagonal() * scores;
  if (bias_) Z.rowwise() += b.row(0);
  return Z;
}

Wide Plain::bias_part(const Wide& rows, const Wide& b) const {
  return bias_ ? Wide(rows.colwise().sum() + lambda_b_ * b) : Wide(Wide::Zero(1, K_));
}

}  // namespace ufm_fast::tests
