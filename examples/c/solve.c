/* A model of three classes, the last of which is rare, solved by gradient descent with momentum in plain C.
 *
 *   cc -std=c99 solve.c $(ufm-fast config --cflags --libs) -lm -o solve && ./solve
 *
 * Prints a line a number: the loss at a given point, its derivative and its second derivative along a direction, and
 * the loss at the end of the descent.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <ufm_fast.h>

enum { K = 3, D = 4, SIZE = 2 * K * D + K, STEPS = 20000 };

static void check(int code) {
  if (code == UFM_FAST_OK) return;
  fprintf(stderr, "ufm_fast: %s\n", ufm_fast_message());
  exit(EXIT_FAILURE);
}

static double dot(const double* x, const double* y) {
  double sum = 0;
  int i;
  for (i = 0; i < SIZE; ++i) sum += x[i] * y[i];
  return sum;
}

/* One row of H a class: the mean of its features. */
static ufm_fast_problem* make_problem(void) {
  const double counts[K] = {50, 50, 5};
  ufm_fast_problem* problem;
  check(ufm_fast_new("cross_entropy", K, D, 0, &problem));
  check(ufm_fast_set_decays(problem, 5e-3, 1e-3, 1e-2, 1));
  check(ufm_fast_set_labels(problem, K, NULL, counts, NULL, NULL));
  return problem;
}

/* Accelerated gradient descent, restarted where it goes up, until the gradient vanishes. Returns the loss. */
static double descend(const ufm_fast_problem* problem, double* x) {
  double velocity[SIZE] = {0}, gradient[SIZE], value = INFINITY;
  int step, i;
  for (step = 0; step < STEPS; ++step) {
    check(ufm_fast_loss_and_gradient(problem, x, &value, gradient));
    if (dot(gradient, gradient) < 1e-24) break;
    if (dot(gradient, velocity) > 0) {
      for (i = 0; i < SIZE; ++i) velocity[i] = 0;
    }
    for (i = 0; i < SIZE; ++i) {
      velocity[i] = 0.97 * velocity[i] - 0.2 * gradient[i];
      x[i] += velocity[i];
    }
  }
  return value;
}

int main(void) {
  ufm_fast_problem* const problem = make_problem();
  double x[SIZE], v[SIZE], gradient[SIZE], product[SIZE], value;
  int64_t size;
  int i;
  check(ufm_fast_size(problem, &size));
  if (size != SIZE) return EXIT_FAILURE;
  for (i = 0; i < SIZE; ++i) {
    x[i] = sin(i + 1);
    v[i] = cos(i + 1);
  }
  check(ufm_fast_loss_and_gradient(problem, x, &value, gradient));
  check(ufm_fast_hessian_products(problem, x, 1, v, product));
  printf("loss %.17g\nslope %.17g\ncurvature %.17g\n", value, dot(gradient, v), dot(product, v));
  printf("minimum %.17g\n", descend(problem, x));
  ufm_fast_free(problem);
  return EXIT_SUCCESS;
}
