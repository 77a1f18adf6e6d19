// Objects that several threads use at a time: the same bits as on one, and no data race (under the preset tsan).
#include <thread>
#include <ufm_fast/spectral/hessian_operator.hpp>

#include "compare.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

constexpr int callers = 6;

/// Calls work(caller) on a thread each; all begin at the same time.
template <class Work>
void together(Work&& work) {
  std::atomic<int> missing{callers};
  std::vector<std::thread> threads;
  for (int caller = 0; caller < callers; ++caller) {
    threads.emplace_back([&, caller] {
      --missing;
      while (missing > 0) std::this_thread::yield();
      work(caller);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// Whether every caller found what was expected of it. Checks count their failures on one thread only.
void check_all(const std::vector<char>& found, const char* what) {
  for (const char each : found) check(each != 0, what);
}

template <class T>
bool same_bits(const Arrays<T>& x, const Arrays<T>& y) {
  return x.W == y.W && x.H == y.H && x.b == y.b;
}

template <class T>
void share_problem(const char* loss) {
  const Model<T> model({70, 40, 300}, make_loss<T>(loss, 70), true);
  const auto evaluated = [&](int caller) {
    return Evaluation<T>(model, model.random_point(static_cast<unsigned>(caller)), 1 + caller % 3);
  };
  std::vector<Evaluation<T>> alone;
  for (int caller = 0; caller < callers; ++caller) alone.push_back(evaluated(caller));
  std::vector<char> same(callers);
  together([&](int caller) {
    const Evaluation<T> found = evaluated(caller);
    const Evaluation<T>& expected = alone[std::size_t(caller)];
    same[std::size_t(caller)] = found.value == expected.value && same_bits(found.gradient, expected.gradient) &&
                                same_bits(found.product, expected.product);
  });
  check_all(same, "a problem that threads share has the same values");
}

void share_operator() {
  const Problem<double> problem = make_problem(make_loss<double>("cross_entropy", 50), 30,
                                               Targets<double>::of_labels(50, std::vector<Index>(90, 3)), {0.02, 0.01});
  const Dense<double> point = Dense<double>::Random(1, problem.size());
  const HessianOperator<double> hessian(problem, problem.point(point.data()), true);
  const auto product = [&](int caller) {
    const Dense<double> v = Dense<double>::Constant(2, problem.size(), 1.0 + caller);
    Dense<double> out(2, problem.size());
    hessian.apply({v.data(), 2, problem.size()}, {out.data(), 2, problem.size()}, {1 + caller % 2, {}});
    return out;
  };
  std::vector<Dense<double>> alone;
  for (int caller = 0; caller < callers; ++caller) alone.push_back(product(caller));
  std::vector<char> same(callers);
  together([&](int caller) { same[std::size_t(caller)] = product(caller) == alone[std::size_t(caller)]; });
  check_all(same, "an operator that threads share has the same products");
}

/// A block of memory belongs to one thread until it is freed.
void share_memory() {
  std::vector<char> own(callers, 1);
  together([&](int caller) {
    for (Index round = 0; round < 300; ++round) {
      const Index size = Index(memory::large / sizeof(double)) << (round % 3);
      const Workspace<double> space(size);
      Vector<double> numbers(space.data(), size);
      numbers.setConstant(caller);
      std::this_thread::yield();
      own[std::size_t(caller)] &= char((numbers == double(caller)).all());
    }
  });
  check_all(own, "memory belongs to one thread at a time");
}

/// Fortran's DGEMM for operands that are not transposed; its sizes are right only if its integers are.
template <class Integer>
void plain_gemm(const char*, const char*, const Integer* m, const Integer* n, const Integer* k, const double* alpha,
                const double* a, const Integer*, const double* b, const Integer*, const double* beta, double* c,
                const Integer*) {
  using Columns = Eigen::MatrixXd;
  const Eigen::Map<const Columns> A(a, *m, *k), B(b, *k, *n);
  Eigen::Map<Columns> C(c, *m, *n);
  if (*beta == 0) C.setZero();
  C += *alpha * A * B;
}

void set_blas(int round) {
  BlasFunction& blas = gemm_function<double>();
  if (round % 3 == 0) blas.set(reinterpret_cast<void*>(&plain_gemm<std::int32_t>), 4);
  if (round % 3 == 1) blas.set(reinterpret_cast<void*>(&plain_gemm<std::int64_t>), 8);
  if (round % 3 == 2) blas.set(nullptr, 4);
}

/// Products while the BLAS that does them changes.
void share_blas() {
  const Index n = 48;  // above small_product
  const Dense<double> a = Dense<double>::Random(n, n), b = Dense<double>::Random(n, n), expected = a * b;
  std::vector<char> close(callers, 1);
  together([&](int caller) {
    Dense<double> c(n, n);
    for (int round = 0; round < 200; ++round) {
      if (caller == 0) {
        set_blas(round);
        continue;
      }
      gemm<double>(Op::none, Op::none, 1, {a.data(), n, n}, {b.data(), n, n}, 0, {c.data(), n, n});
      close[std::size_t(caller)] &= char(largest(c - expected) < 1e-12);
    }
  });
  gemm_function<double>().set(nullptr, 4);
  check_all(close, "products while the BLAS is set");
}

}  // namespace

int main() {
  share_problem<double>("cross_entropy");
  share_problem<float>("mse");
  share_problem<double>("bce");
  share_operator();
  share_memory();
  share_blas();
  return failures();
}
