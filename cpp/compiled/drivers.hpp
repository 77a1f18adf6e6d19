#pragma once

// Products, losses and drivers, where the time goes: compiled once for each instruction-set level, in drivers.cpp, for
// the shared object of the level and, at the baseline, for the tests of the core.

#include <ufm_fast/blas/blas.hpp>
#include <ufm_fast/losses/registry.hpp>
#include <ufm_fast/model/evaluate.hpp>
#include <ufm_fast/model/hessian.hpp>

// clang-format off
#define UFM_FAST_DRIVERS(prefix, T)                                                                                    \
  prefix template BlasFunction& gemm_function<T>();                                                                    \
  prefix template BlasFunction& syrk_function<T>();                                                                    \
  prefix template void gemm<T>(Op, Op, T, MatrixView<const T>, MatrixView<const T>, T, MatrixView<T>);                 \
  prefix template void gram<T>(MatrixView<const T>, T, MatrixView<T>);                                                 \
  prefix template class prepacked::RightFactor<T>;                                                                     \
  prefix template class prepacked::TransposedSum<T>;                                                                   \
  prefix template LossPointer<T> make_loss<T>(const std::string&, Index, const LossParameters&);                       \
  prefix template double loss<T>(const Problem<T>&, PointView<const T>, const Execution&);                             \
  prefix template double loss_and_gradient<T>(const Problem<T>&, PointView<const T>, PointView<T>, const Execution&,   \
                                              RowValues<T>);                                                           \
  prefix template bool hessian_products<T>(const Problem<T>&, PointView<const T>,                                      \
                                           const std::vector<PointView<const T>>&, MatrixView<const T>,                \
                                           const std::vector<PointView<T>>&, const Execution&);
// clang-format on

namespace ufm_fast {

UFM_FAST_DRIVERS(extern, double)
UFM_FAST_DRIVERS(extern, float)

}  // namespace ufm_fast
