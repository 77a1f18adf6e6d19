#pragma once

// The drivers and losses that most programs use, compiled once, in drivers.cpp, for all that link it and include this.

#include <ufm_fast/losses/registry.hpp>
#include <ufm_fast/model/evaluate.hpp>
#include <ufm_fast/model/hessian.hpp>

// clang-format off
#define UFM_FAST_DRIVERS(prefix, T)                                                                                    \
  prefix template LossPointer<T> make_loss<T>(const std::string&, Index, const LossParameters&);                      \
  prefix template double loss<T>(const Problem<T>&, PointView<const T>, const Execution&);                            \
  prefix template double loss_and_gradient<T>(const Problem<T>&, PointView<const T>, PointView<T>, const Execution&,  \
                                              RowValues<T>);                                                           \
  prefix template bool hessian_products<T>(const Problem<T>&, PointView<const T>,                                      \
                                           const std::vector<PointView<const T>>&, MatrixView<const T>,                \
                                           const std::vector<PointView<T>>&, const Execution&);
// clang-format on

namespace ufm_fast {

UFM_FAST_DRIVERS(extern, double)
UFM_FAST_DRIVERS(extern, float)

}  // namespace ufm_fast
