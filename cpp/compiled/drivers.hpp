#pragma once

// The drivers and losses that most programs use, compiled once for each instruction-set level, in drivers.cpp: for the
// tests of the core as objects, for C and Python in the shared object of the level, which exports them. So the table of
// BLAS functions is one for both.

#include <ufm_fast/base/visible.hpp>
#include <ufm_fast/blas/blas.hpp>
#include <ufm_fast/losses/registry.hpp>
#include <ufm_fast/model/evaluate.hpp>
#include <ufm_fast/model/hessian.hpp>

// clang-format off
#define UFM_FAST_DRIVERS(prefix, T)                                                                                    \
  prefix template UFM_FAST_VISIBLE BlasFunction& gemm_function<T>();                                                   \
  prefix template UFM_FAST_VISIBLE BlasFunction& syrk_function<T>();                                                   \
  prefix template UFM_FAST_VISIBLE LossPointer<T> make_loss<T>(const std::string&, Index, const LossParameters&);      \
  prefix template UFM_FAST_VISIBLE double loss<T>(const Problem<T>&, PointView<const T>, const Execution&);            \
  prefix template UFM_FAST_VISIBLE double loss_and_gradient<T>(const Problem<T>&, PointView<const T>, PointView<T>,    \
                                                               const Execution&, RowValues<T>);                        \
  prefix template UFM_FAST_VISIBLE bool hessian_products<T>(const Problem<T>&, PointView<const T>,                     \
                                                            const std::vector<PointView<const T>>&,                    \
                                                            MatrixView<const T>, const std::vector<PointView<T>>&,     \
                                                            const Execution&);
// clang-format on

namespace ufm_fast {

UFM_FAST_DRIVERS(extern, double)
UFM_FAST_DRIVERS(extern, float)

}  // namespace ufm_fast
