/* Unconstrained feature models from C and from whatever calls C: loss, gradient and Hessian products of
 *
 *   f(W, H, b) = sum_m n_m/N weights_m l(W h_m + b; target m)
 *                + lambda_W/2 |W|^2 + lambda_H/2 sum_m ridges_m |h_m|^2 + lambda_b/2 |b|^2
 *
 * with N = sum of n_m. The classifier W is a (K, d) matrix, the features H are an (M, d) matrix with a feature a row,
 * the bias b has a number for each of the K logits. Matrices are in C order: rows one after the other. A packed point
 * is one array of ufm_fast_size numbers: W, H and, where there is a bias, b; so are directions and gradients.
 *
 * A problem is made by ufm_fast_new, is given the parameters of its loss and its decays, and last of all its targets.
 * Then it can be evaluated, also on several threads at the same time, as long as none changes it.
 *
 * Functions that return an int return UFM_FAST_OK or why they failed; ufm_fast_message then has a sentence. No function
 * throws, stops the program or prints. Arrays that a function takes for input are copied where they are kept.
 */
#ifndef UFM_FAST_H
#define UFM_FAST_H

#include <stdint.h>

#if defined(_WIN32) && defined(UFM_FAST_BUILDS_LIBRARY)
#define UFM_FAST_API __declspec(dllexport)
#elif defined(_WIN32)
#define UFM_FAST_API __declspec(dllimport)
#elif defined(__GNUC__)
#define UFM_FAST_API __attribute__((visibility("default")))
#else
#define UFM_FAST_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum {
  UFM_FAST_OK = 0,
  UFM_FAST_INVALID = 1,     /* an argument is not as it should be; nothing has been changed */
  UFM_FAST_MEMORY = 2,      /* memory cannot be allocated */
  UFM_FAST_OVERFLOW = 3,    /* the result is too large for its type, though the point is finite */
  UFM_FAST_INTERRUPTED = 4, /* the function set by ufm_fast_set_interruption asked to stop */
  UFM_FAST_UNAVAILABLE = 5, /* the part of the library for this processor cannot be loaded */
  UFM_FAST_FAILED = 6       /* anything else */
};

typedef struct ufm_fast_problem ufm_fast_problem;
typedef void (*ufm_fast_function)(void);

/* The version, "0.1.0". */
UFM_FAST_API const char* ufm_fast_version(void);

/* Why the last function called on this thread that failed did so; valid until the next one does. */
UFM_FAST_API const char* ufm_fast_message(void);

/* The instruction-set level in use: "baseline", "v3" (AVX2), "v4" (AVX-512) or "native". It is the best that this
 * machine runs or what the environment variable UFM_FAST_ISA says. NULL if none can be loaded. */
UFM_FAST_API const char* ufm_fast_instruction_set(void);

/* Fortran's dgemm and sgemm of a BLAS, with integers of 4 or 8 bytes, for large products; NULL leaves these to the
 * library. The BLAS must run on one thread, for the library brings its own. Call it before all others. */
UFM_FAST_API int ufm_fast_set_gemm(ufm_fast_function dgemm, ufm_fast_function sgemm, int integer_bytes);

/* Makes a problem for K classes and features of d numbers; ufm_fast_free frees it (and takes NULL). The loss is
 *
 *   "cross_entropy"  with label_smoothing (0), and vectors of K numbers scale, shift and margin (none)
 *   "mse"
 *   "bce"            binary cross-entropy, with label_smoothing (0)
 *   "focal"          with gamma
 *   "ordinal"        of K levels and one logit, so W is (1, d) and b one number; with a word link, "logit" or "probit",
 *                    and a vector of thresholds; without it the K - 1 thresholds are learned, as b
 *
 * Numbers at points are double, or float if single_precision is not zero. Without further calls there are no decays,
 * there is a bias, and one thread works. */
UFM_FAST_API int ufm_fast_new(const char* loss, int64_t K, int64_t d, int single_precision, ufm_fast_problem** out);
UFM_FAST_API void ufm_fast_free(ufm_fast_problem* problem);

/* Parameters of the loss, by name, and the decays; bias is 0 for a model without one. To be called before targets are
 * set. Whether the loss has such a parameter, and takes such a value, is seen when the targets are set. */
UFM_FAST_API int ufm_fast_set_number(ufm_fast_problem* problem, const char* name, double value);
UFM_FAST_API int ufm_fast_set_vector(ufm_fast_problem* problem, const char* name, int64_t count, const double* values);
UFM_FAST_API int ufm_fast_set_word(ufm_fast_problem* problem, const char* name, const char* word);
UFM_FAST_API int ufm_fast_set_decays(ufm_fast_problem* problem, double lambda_W, double lambda_H, double lambda_b,
                                     int bias);

/* The M rows of data: labels in [0, K); or M rows of K numbers; or such rows in compressed form, row m with
 * entries[e] in column columns[e] for starts[m] <= e < starts[m + 1], columns ascending. NULL for labels stands for
 * 0, 1, ..., M - 1: a row a class. Row m stands for samples[m] samples, which count weights[m] times in the loss, and
 * its feature counts ridges[m] times in the decay: M numbers each, or NULL for ones (ridges: for samples). May be
 * called again, for another batch of rows. Without decays this is the linear cross-entropy of a batch: the mean over
 * the rows, for training loops. */
UFM_FAST_API int ufm_fast_set_labels(ufm_fast_problem* problem, int64_t M, const int64_t* labels, const double* samples,
                                     const double* weights, const double* ridges);
UFM_FAST_API int ufm_fast_set_targets(ufm_fast_problem* problem, int64_t M, const double* entries,
                                      const double* samples, const double* weights, const double* ridges);
UFM_FAST_API int ufm_fast_set_sparse_targets(ufm_fast_problem* problem, int64_t M, const int64_t* starts,
                                             const int64_t* columns, const double* entries, const double* samples,
                                             const double* weights, const double* ridges);

/* How many threads work, from 1 to 4096; a problem that is small uses fewer. */
UFM_FAST_API int ufm_fast_set_threads(ufm_fast_problem* problem, int threads);

/* A function that is asked about twenty times a second, on the thread that evaluates, whether to stop; it gets context
 * and returns 0 to go on. Where several threads evaluate the problem at a time, each asks it. NULL for none. */
UFM_FAST_API int ufm_fast_set_interruption(ufm_fast_problem* problem, int (*stop)(void* context), void* context);

/* The length of a packed point: (K + M) d and K more where there is a bias; for "ordinal" (1 + M) d and one more, or
 * K - 1 where thresholds are learned. */
UFM_FAST_API int ufm_fast_size(const ufm_fast_problem* problem, int64_t* size);

/* f at the packed point x: one product of K d M multiplications. */
UFM_FAST_API int ufm_fast_loss(const ufm_fast_problem* problem, const double* x, double* value);
UFM_FAST_API int ufm_fast_loss_f(const ufm_fast_problem* problem, const float* x, double* value);

/* f and its gradient at the packed point x: three products. Where they overflow the value is infinity, which line
 * searches understand, and the gradient is undefined. */
UFM_FAST_API int ufm_fast_loss_and_gradient(const ufm_fast_problem* problem, const double* x, double* value,
                                            double* gradient);
UFM_FAST_API int ufm_fast_loss_and_gradient_f(const ufm_fast_problem* problem, const float* x, double* value,
                                              float* gradient);

/* The same with the parts of the point and of the gradient in arrays of their own. Without bias, b and gradient_b are
 * not used and may be NULL. */
UFM_FAST_API int ufm_fast_loss_and_gradient_of_parts(const ufm_fast_problem* problem, const double* W, const double* H,
                                                     const double* b, double* value, double* gradient_W,
                                                     double* gradient_H, double* gradient_b);
UFM_FAST_API int ufm_fast_loss_and_gradient_of_parts_f(const ufm_fast_problem* problem, const float* W, const float* H,
                                                       const float* b, double* value, float* gradient_W,
                                                       float* gradient_H, float* gradient_b);

/* The Hessian at x times each of count directions, packed and one after the other in v, to the same places in out:
 * six products a direction and one for all. */
UFM_FAST_API int ufm_fast_hessian_products(const ufm_fast_problem* problem, const double* x, int64_t count,
                                           const double* v, double* out);
UFM_FAST_API int ufm_fast_hessian_products_f(const ufm_fast_problem* problem, const float* x, int64_t count,
                                             const float* v, float* out);

#ifdef __cplusplus
}
#endif

#endif
