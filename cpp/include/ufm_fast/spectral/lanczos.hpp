#pragma once

#include "ufm_fast/blas/vectors.hpp"
#include "ufm_fast/model/tiles.hpp"

namespace ufm_fast {

/// The Lanczos recurrence from `start` (n,), which is overwritten: diagonal and off-diagonal of the tridiagonal matrix,
/// steps and steps - 1 numbers, fewer where the Krylov space ends. No reorthogonalisation: for quadrature of spectral
/// densities, where repeated Ritz values share their weight (Golub and Meurant, Matrices, Moments and Quadrature,
/// 2010). `apply(x, y)` sets y = A x. Memory: two vectors.
template <class T, class Apply>
void lanczos(Apply&& apply, T* start, Index n, Index steps, std::vector<double>& diagonal,
             std::vector<double>& off_diagonal, const Execution& execution) {
  Interruption interruption(execution.poll);
  const Workspace<T> space(2 * n);
  T* current = start;
  T* image = space.data();
  T* last = space.data() + n;
  Vector<T>(current, n) *= T(1 / std::sqrt(squared_norm(current, n)));
  double beta = 0, largest = 0;
  for (Index step = 0; step < steps; ++step) {
    interruption.check(0);
    apply(current, image);
    Vector<T> y(image, n);
    if (step > 0) y -= T(beta) * ConstVector<T>(last, n);
    const double alpha = (y.template cast<double>() * ConstVector<T>(current, n).template cast<double>()).sum();
    y -= T(alpha) * ConstVector<T>(current, n);
    diagonal.push_back(alpha);
    beta = std::sqrt(squared_norm(image, n));
    largest = std::max({largest, std::abs(alpha), beta});
    if (step + 1 == steps || beta <= largest * double(std::numeric_limits<T>::epsilon()) * 100) break;
    off_diagonal.push_back(beta);
    y *= T(1 / beta);
    T* const spare = last;
    last = current;
    current = image;
    image = spare;
  }
}

}  // namespace ufm_fast
