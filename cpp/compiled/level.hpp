#pragma once

// The core in the code of one instruction-set level, as the shared object of that level exports it: a table of
// functions. The Python module and the C library are compiled once, for any processor, and reach the core through this
// table only, for a function that they instantiated themselves would be code for the oldest processor. What they hand
// over has the same layout at every level (no Eigen types), and memory is released where it was allocated.

#include <functional>
#include <memory>
#include <ufm_fast/statistics/class_statistics.hpp>
#include <ufm_fast/ufm_fast.hpp>

#include "drivers.hpp"

namespace ufm_fast {

/// What exists in double and in single precision. The functions that members point to are instantiated where a table is
/// made, not where it is used; so it is with the other table below.
template <class T>
struct Functions {
  decltype(&ufm_fast::gemm_function<T>) gemm_function = ufm_fast::gemm_function<T>;
  decltype(&ufm_fast::syrk_function<T>) syrk_function = ufm_fast::syrk_function<T>;
  decltype(&ufm_fast::make_loss<T>) make_loss = ufm_fast::make_loss<T>;

  decltype(&ufm_fast::loss<T>) loss = ufm_fast::loss<T>;
  decltype(&ufm_fast::loss_and_gradient<T>) loss_and_gradient = ufm_fast::loss_and_gradient<T>;
  decltype(&ufm_fast::hessian_products<T>) hessian_products = ufm_fast::hessian_products<T>;
  decltype(&ufm_fast::row_states<T>) row_states = ufm_fast::row_states<T>;
  decltype(&ufm_fast::gradient_matrix<T>) gradient_matrix = ufm_fast::gradient_matrix<T>;
  decltype(&ufm_fast::gradient_gram<T>) gradient_gram = ufm_fast::gradient_gram<T>;
  decltype(&ufm_fast::gradient_product<T>) gradient_product = ufm_fast::gradient_product<T>;
  decltype(&ufm_fast::data_term<T>) data_term = ufm_fast::data_term<T>;
  decltype(&ufm_fast::gradient_at_scores<T>) gradient_at_scores = ufm_fast::gradient_at_scores<T>;

  decltype(&ufm_fast::class_logits<T>) class_logits = ufm_fast::class_logits<T>;
  decltype(&ufm_fast::class_gradient<T>) class_gradient = ufm_fast::class_gradient<T>;
  decltype(&ufm_fast::class_moves<T>) class_moves = ufm_fast::class_moves<T>;
  decltype(&ufm_fast::class_product<T>) class_product = ufm_fast::class_product<T>;

  decltype(&ufm_fast::parallel_transpose<T>) parallel_transpose = ufm_fast::parallel_transpose<T>;
  decltype(&ufm_fast::first_not_finite<T>) first_not_finite = ufm_fast::first_not_finite<T>;
  bool (*update)(ClassStatistics&, MatrixView<const T>, const Index*,
                 const Execution&) = [](ClassStatistics& statistics, MatrixView<const T> H, const Index* labels,
                                        const Execution& execution) { return statistics.update(H, labels, execution); };
};

/// What exists in double precision only.
template <class T>
struct DoubleFunctions {
  using Vectors = std::vector<const T*>;
  using Operator = std::unique_ptr<LinearOperator<T>>;
  using Apply = std::function<void(const T*, T*)>;

  std::vector<double> (*inner_products)(const Vectors&, const Vectors&, Index,
                                        const Execution&) = ufm_fast::inner_products<T>;
  void (*combine)(const std::vector<T>&, const Vectors&, Index, T*, const Execution&) = ufm_fast::combine<T>;
  decltype(&ufm_fast::parallel_gemm<T>) parallel_gemm = ufm_fast::parallel_gemm<T>;
  decltype(&ufm_fast::parallel_gram<T>) parallel_gram = ufm_fast::parallel_gram<T>;

  decltype(&ufm_fast::curvature_sums<T>) curvature_sums = ufm_fast::curvature_sums<T>;
  decltype(&ufm_fast::bias_curvature_product<T>) bias_curvature_product = ufm_fast::bias_curvature_product<T>;
  decltype(&ufm_fast::curvature_along<T>) curvature_along = ufm_fast::curvature_along<T>;
  decltype(&ufm_fast::row_norms<T>) row_norms = ufm_fast::row_norms<T>;
  void (*apply_metric)(const PairMetric<T>&, const Problem<T>&, MatrixView<const T>, MatrixView<const T>,
                       MatrixView<const T>, MatrixView<T>, MatrixView<T>, const Execution&) =
      [](const PairMetric<T>& metric, const Problem<T>& problem, MatrixView<const T> G, MatrixView<const T> X,
         MatrixView<const T> Y, MatrixView<T> out_A, MatrixView<T> out_B,
         const Execution& execution) { metric.apply(problem, G, X, Y, out_A, out_B, execution); };
  decltype(&ufm_fast::dual_sums) dual_sums = ufm_fast::dual_sums;

  Operator (*hessian_operator)(const Problem<T>&, PointView<const T>, bool, bool, const Execution&) =
      [](const Problem<T>& problem, PointView<const T> p, bool store, bool deflate, const Execution& execution) {
        return Operator(new HessianOperator<T>(problem, p, store, deflate, execution));
      };
  Operator (*gradient_operator)(const Problem<T>&, PointView<const T>, bool, MatrixView<const T>,
                                const Execution&) = [](const Problem<T>& problem, PointView<const T> p, bool store,
                                                       MatrixView<const T> without, const Execution& execution) {
    return Operator(new GradientOperator<T>(problem, p, store, without, execution));
  };
  Operator (*negated_symmetric)(MatrixView<const T>) = [](MatrixView<const T> S) {
    return Operator(new NegatedSymmetric<T>(S));
  };
  decltype(&ufm_fast::lowest_eigenpairs<T>) lowest_eigenpairs = ufm_fast::lowest_eigenpairs<T>;
  decltype(&ufm_fast::lanczos<T, const Apply&>) lanczos = ufm_fast::lanczos<T, const Apply&>;

  std::shared_ptr<ClassStatistics> (*make_statistics)(Index, Index, bool) = [](Index K, Index d, bool scatter) {
    return std::make_shared<ClassStatistics>(K, d, scatter);
  };
  void (*merge)(ClassStatistics&, ClassStatistics&,
                const Execution&) = [](ClassStatistics& statistics, ClassStatistics& other,
                                       const Execution& execution) { statistics.merge(other, execution); };
  void (*read)(ClassStatistics&, MatrixView<double>, double*, double*, MatrixView<double>, const Execution&) =
      [](ClassStatistics& statistics, MatrixView<double> means, double* roundings, double* squares,
         MatrixView<double> scatter,
         const Execution& execution) { statistics.read(means, roundings, squares, scatter, execution); };

  decltype(&memory::allocate) allocate = memory::allocate;
  decltype(&memory::release) release = memory::release;
};

struct Level {
  const char *name, *version;
  Functions<double> in_double;
  Functions<float> in_float;
  DoubleFunctions<double> in_double_only;

  template <class T>
  const Functions<T>& in() const {
    if constexpr (std::is_same_v<T, double>) {
      return in_double;
    } else {
      return in_float;
    }
  }
};

/// The function with this name, of no arguments, returns the table.
inline constexpr char level_symbol[] = "ufm_fast_level";

}  // namespace ufm_fast
