#pragma once

#include <Eigen/Core>
#include <atomic>
#include <cstdint>

#include "ufm_fast/base/matrix_view.hpp"

namespace ufm_fast {

/// A function of a BLAS, found at run time; where there is none, Eigen does the work. It has the reference signature of
/// Fortran and must run single-threaded: this library brings the threads.
class BlasFunction {
 public:
  /// Takes a function whose integers have 4 or 8 bytes, or null for none. Once, before the first product: a product
  /// that has begun may already rely on what was there before.
  void set(void* function, int integer_bytes) {
    with_int32_.store(integer_bytes == 4 ? function : nullptr, std::memory_order_release);
    with_int64_.store(integer_bytes == 8 ? function : nullptr, std::memory_order_release);
  }

  explicit operator bool() const { return of<std::int32_t>() != nullptr || of<std::int64_t>() != nullptr; }

  /// The function, if its integers are of this type, or null. So no thread takes it for one with the other integers.
  template <class Integer>
  void* of() const {
    return (sizeof(Integer) == 4 ? with_int32_ : with_int64_).load(std::memory_order_acquire);
  }

 private:
  std::atomic<void*> with_int32_{nullptr}, with_int64_{nullptr};
};

/// The table of BLAS functions, one entry per scalar type.
template <class T>
BlasFunction& gemm_function() {
  static BlasFunction entry;
  return entry;
}

/// The same for SYRK.
template <class T>
BlasFunction& syrk_function() {
  static BlasFunction entry;
  return entry;
}

/// Products of at most this many multiplications stay on Eigen: they are done before a BLAS call has packed its
/// operands.
inline constexpr Index small_product = Index{1} << 16;

namespace detail {

template <class Integer, class T>
void call_gemm(void* function, Op op_a, Op op_b, T alpha, MatrixView<const T> a, MatrixView<const T> b, T beta,
               MatrixView<T> c) {
  using Gemm = void (*)(const char*, const char*, const Integer*, const Integer*, const Integer*, const T*, const T*,
                        const Integer*, const T*, const Integer*, const T*, T*, const Integer*);
  // Row-major C = op(A) op(B) is column-major C^T = op(B)^T op(A)^T.
  const char first = op_b == Op::none ? 'N' : 'T';
  const char second = op_a == Op::none ? 'N' : 'T';
  const Integer m = static_cast<Integer>(c.cols), n = static_cast<Integer>(c.rows);
  const Integer k = static_cast<Integer>(op_a == Op::none ? a.cols : a.rows);
  const Integer lda = static_cast<Integer>(a.stride), ldb = static_cast<Integer>(b.stride);
  const Integer ldc = static_cast<Integer>(c.stride);
  reinterpret_cast<Gemm>(function)(&first, &second, &m, &n, &k, &alpha, b.data, &ldb, a.data, &lda, &beta, c.data,
                                   &ldc);
}

template <class Integer, class T>
void call_syrk(void* function, MatrixView<const T> x, T beta, MatrixView<T> c) {
  using Syrk = void (*)(const char*, const char*, const Integer*, const Integer*, const T*, const T*, const Integer*,
                        const T*, T*, const Integer*);
  // The lower triangle of the column-major matrix is the upper one of the row-major matrix.
  const Integer n = static_cast<Integer>(c.cols), k = static_cast<Integer>(x.rows);
  const Integer ldx = static_cast<Integer>(x.stride), ldc = static_cast<Integer>(c.stride);
  const T one = 1;
  reinterpret_cast<Syrk>(function)("L", "N", &n, &k, &one, x.data, &ldx, &beta, c.data, &ldc);
}

template <class T>
void eigen_gemm(Op op_a, Op op_b, T alpha, MatrixView<const T> a, MatrixView<const T> b, T beta, MatrixView<T> c) {
  using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::OuterStride<>;
  const Eigen::Map<const RowMajor, 0, Stride> A(a.data, a.rows, a.cols, Stride(a.stride));
  const Eigen::Map<const RowMajor, 0, Stride> B(b.data, b.rows, b.cols, Stride(b.stride));
  Eigen::Map<RowMajor, 0, Stride> C(c.data, c.rows, c.cols, Stride(c.stride));
  if (beta == T(0)) {
    C.setZero();
  } else if (beta != T(1)) {
    C *= beta;
  }
  if (op_a == Op::none && op_b == Op::none) {
    C.noalias() += alpha * A * B;
  } else if (op_a == Op::none) {
    C.noalias() += alpha * A * B.transpose();
  } else if (op_b == Op::none) {
    C.noalias() += alpha * A.transpose() * B;
  } else {
    C.noalias() += alpha * A.transpose() * B.transpose();
  }
}

}  // namespace detail

/// C = alpha op(A) op(B) + beta C, single-threaded. C is (c.rows, c.cols); the inner size follows from A.
template <class T>
void gemm(Op op_a, Op op_b, T alpha, MatrixView<const T> a, MatrixView<const T> b, T beta, MatrixView<T> c) {
  const Index inner = op_a == Op::none ? a.cols : a.rows;
  const BlasFunction& blas = gemm_function<T>();
  if (c.rows * c.cols * inner <= small_product) {
    detail::eigen_gemm(op_a, op_b, alpha, a, b, beta, c);
  } else if (void* const with_int32 = blas.of<std::int32_t>()) {
    detail::call_gemm<std::int32_t>(with_int32, op_a, op_b, alpha, a, b, beta, c);
  } else if (void* const with_int64 = blas.of<std::int64_t>()) {
    detail::call_gemm<std::int64_t>(with_int64, op_a, op_b, alpha, a, b, beta, c);
  } else {
    detail::eigen_gemm(op_a, op_b, alpha, a, b, beta, c);
  }
}

/// The diagonal and what lies above it of C = X^T X + beta C, single-threaded; what lies below is left undefined.
template <class T>
void gram(MatrixView<const T> x, T beta, MatrixView<T> c) {
  const BlasFunction& blas = syrk_function<T>();
  if (c.rows * c.cols * x.rows <= small_product) {
    gemm<T>(Op::transpose, Op::none, 1, x, x, beta, c);
  } else if (void* const with_int32 = blas.of<std::int32_t>()) {
    detail::call_syrk<std::int32_t>(with_int32, x, beta, c);
  } else if (void* const with_int64 = blas.of<std::int64_t>()) {
    detail::call_syrk<std::int64_t>(with_int64, x, beta, c);
  } else {
    gemm<T>(Op::transpose, Op::none, 1, x, x, beta, c);
  }
}

}  // namespace ufm_fast
