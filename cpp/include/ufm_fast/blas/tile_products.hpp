#pragma once

#include <optional>

#include "ufm_fast/base/parallel.hpp"
#include "ufm_fast/blas/blas.hpp"
#include "ufm_fast/blas/prepacked.hpp"

namespace ufm_fast {

/// Whether tiles of features with d columns are multiplied by the kernel of prepacked.hpp and not by BLAS. BLAS packs
/// the large operand again in every call, which does not pay for few columns, or few classes. Tiny products are left to
/// Eigen (see `small_product`).
template <class T>
bool packs(Index K, Index d) {
  constexpr Index few = simd::lanes<T> * static_cast<Index>(sizeof(T)) >= 64 ? 512 : 256;  // the wider, the faster ours
  return (d <= few || K <= 128 || !gemm_function<T>()) && K * d > 1024;
}

/// op(B), the right operand of one product a tile. Refers to B.
template <class T>
class RightFactor {
 public:
  RightFactor(Op op, MatrixView<const T> b, const Execution& execution) : op_(op), b_(b) {
    if (!packs<T>(b.rows, b.cols)) return;
    packed_.emplace(op == Op::none ? b.rows : b.cols, op == Op::none ? b.cols : b.rows);
    const int workers = b.rows * b.cols <= small_product ? 1 : worker_count(packed_->slivers(), execution.threads);
    parallel_ranges(packed_->slivers(), workers, execution.poll,
                    [&](int, Index first, Index last, Interruption&) { packed_->pack(op, b, first, last); });
  }

  bool is_packed() const { return packed_.has_value(); }

  using Finished = typename prepacked::RightFactor<T>::Finished;

  /// C = A op(B), added to C if `accumulate`; `finished` as in prepacked::RightFactor, called only if packed.
  void multiply(MatrixView<const T> a, bool accumulate, MatrixView<T> c, const Finished& finished = {}) const {
    if (packed_) {
      packed_->multiply(a, accumulate, c, finished);
    } else {
      gemm<T>(Op::none, op_, 1, a, b_, accumulate ? 1 : 0, c);
    }
  }

 private:
  Op op_;
  MatrixView<const T> b_;
  std::optional<prepacked::RightFactor<T>> packed_;
};

/// The sum over tiles of G^T H, (K, d), for tiles of features H and of logits G.
template <class T>
class ClassifierSum {
 public:
  /// Where tiles are not packed, and `direct` is given (K d numbers), the sum is added there and nowhere else.
  ClassifierSum(Index K, Index d, T* direct) {
    if (packs<T>(K, d)) {
      packed_.emplace(d, K);
    } else if (direct == nullptr) {
      target_ = plain_.emplace(K * d).data();
    } else {
      target_ = direct;
      begun_ = true;
    }
  }

  void add(MatrixView<const T> G, MatrixView<const T> H) {
    if (packed_) {
      packed_->add(H, G, begun_);
    } else {
      gemm<T>(Op::transpose, Op::none, 1, G, H, begun_ ? 1 : 0, {target_, G.cols, H.cols});
    }
    begun_ = true;
  }

  /// Adds the sum's rows of the classes that out has, from the first on, unless they have been added directly.
  void add_to(Index first, MatrixView<T> out) const {
    if (packed_) {
      packed_->add_to(first, out);
    } else if (plain_) {
      const Index size = out.rows * out.cols;
      Vector<T>(out.data, size) += ConstVector<T>(plain_->data() + first * out.cols, size);
    }
  }

 private:
  std::optional<prepacked::TransposedSum<T>> packed_;
  std::optional<Workspace<T>> plain_;
  T* target_ = nullptr;  ///< of sums that are not packed
  bool begun_ = false;   ///< whether the sum is there to be added to
};

}  // namespace ufm_fast
