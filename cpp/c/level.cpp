// The shared object of one instruction-set level: what the C functions need of the core, in double and in float.
#include "level.hpp"

#include <ufm_fast/version.hpp>

#include "drivers.hpp"

namespace ufm_fast::c {

namespace {

std::vector<double> numbers(const double* values, Index count) {
  return values == nullptr ? std::vector<double>() : std::vector<double>(values, values + count);
}

template <class T>
Targets<T> targets_of(const Rows& rows, Index K) {
  if (rows.M < 1) throw std::invalid_argument("M must be positive, not " + std::to_string(rows.M));
  if (rows.starts != nullptr) {
    const Index count = rows.starts[rows.M];
    if (count < 0) throw std::invalid_argument("starts must end with the number of entries");
    return Targets<T>::of_sparse_rows(K, {rows.starts, rows.starts + rows.M + 1}, {rows.columns, rows.columns + count},
                                      {rows.entries, rows.entries + count});
  }
  if (rows.entries != nullptr) {
    if (rows.M > std::numeric_limits<Index>::max() / K) throw std::bad_alloc();
    return Targets<T>::of_rows(K, {rows.entries, rows.entries + rows.M * K});
  }
  std::vector<Index> labels(static_cast<std::size_t>(rows.M));
  for (Index m = 0; m < rows.M; ++m) labels[m] = rows.labels == nullptr ? m : rows.labels[m];
  return Targets<T>::of_labels(K, std::move(labels));
}

template <class T>
class ModelOf final : public Model {
 public:
  ModelOf(const Description& description, const Rows& rows)
      : problem_(make_problem(
            make_loss<T>(description.loss, description.K, description.parameters), description.d,
            targets_of<T>(rows, description.K), description.decays,
            {numbers(rows.samples, rows.M), numbers(rows.weights, rows.M), numbers(rows.ridges, rows.M)})) {}

  Index size() const noexcept override { return problem_.size(); }

  int loss(const void* x, double* value, const Execution& execution, std::string& message) const noexcept override {
    return guarded(message, [&] {
      const PointView<const T> p = point(x);
      finite(*value = checked_b(p) ? ufm_fast::loss(problem_, p, execution) : infinity, p);
    });
  }

  int loss_and_gradient(const void* x, double* value, void* gradient, const Execution& execution,
                        std::string& message) const noexcept override {
    return gradient_at(point(x), value, point(gradient), execution, message);
  }

  int loss_and_gradient(Parts<const void> p, double* value, Parts<void> gradient, const Execution& execution,
                        std::string& message) const noexcept override {
    const Index K = problem_.K, d = problem_.d, M = problem_.M;
    const PointView<const T> at{{as_numbers(p.W), K, d}, {as_numbers(p.H), M, d}, as_numbers(p.b)};
    const PointView<T> to{{as_numbers(gradient.W), K, d}, {as_numbers(gradient.H), M, d}, as_numbers(gradient.b)};
    return gradient_at(at, value, to, execution, message);
  }

  int hessian_products(const void* x, Index count, const void* v, void* out, const Execution& execution,
                       std::string& message) const noexcept override {
    return guarded(message, [&] {
      std::vector<PointView<const T>> directions;
      std::vector<PointView<T>> images;
      for (Index i = 0; i < count; ++i) {
        directions.push_back(problem_.point(as_numbers(v) + i * size()));
        images.push_back(problem_.point(as_numbers(out) + i * size()));
      }
      const PointView<const T> p = point(x);
      if (ufm_fast::hessian_products(problem_, p, directions, {}, images, execution)) return;
      require_finite(p, "");
      for (const PointView<const T>& direction : directions) require_finite(direction, "v, ");
      overflow("the Hessian product");
    });
  }

 private:
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  Problem<T> problem_;

  static const T* as_numbers(const void* x) { return static_cast<const T*>(x); }
  static T* as_numbers(void* x) { return static_cast<T*>(x); }
  PointView<const T> point(const void* x) const { return problem_.point(as_numbers(x)); }
  PointView<T> point(void* x) const { return problem_.point(as_numbers(x)); }

  int gradient_at(PointView<const T> p, double* value, PointView<T> gradient, const Execution& execution,
                  std::string& message) const noexcept {
    return guarded(message, [&] {
      finite(*value = checked_b(p) ? ufm_fast::loss_and_gradient(problem_, p, gradient, execution) : infinity, p);
    });
  }

  /// Whether b is finite: what is not finite in W and H shows in the loss, b may not.
  bool checked_b(PointView<const T> p) const {
    return !problem_.bias || p.b == nullptr || all_finite(p.b, problem_.biases());
  }

  /// Throws where a value is not finite: which entry of the point is not, or that there is an overflow.
  void finite(double& value, PointView<const T> p) const {
    if (std::isfinite(value)) return;
    value = infinity;
    require_finite(p, "");
    overflow("the loss or its gradient");
  }

  void require_finite(PointView<const T> p, const std::string& prefix) const {
    const auto part = [&](const T* x, Index length, const char* name) {
      const Index i = first_not_finite(x, length);
      if (i < 0) return;
      throw std::invalid_argument(prefix + name + " must be finite, but entry " + std::to_string(i) +
                                  " (in C order) is " + std::to_string(x[i]));
    };
    part(p.W.data, problem_.K * problem_.d, "W");
    part(p.H.data, problem_.M * problem_.d, "H");
    if (problem_.bias) part(p.b, problem_.biases(), "b");
  }

  [[noreturn]] void overflow(const std::string& what) const {
    throw std::overflow_error(what + " overflows at this point, though all its entries are finite" +
                              (problem_.loss->needs_bias() ? ", or the thresholds in b do not ascend" : ""));
  }
};

int make(const Description& description, const Rows& rows, std::unique_ptr<Model>& model, std::string& message) {
  return guarded(message, [&] {
    if (description.single_precision) {
      model = std::make_unique<ModelOf<float>>(description, rows);
    } else {
      model = std::make_unique<ModelOf<double>>(description, rows);
    }
  });
}

void set_gemm(ufm_fast_function dgemm, ufm_fast_function sgemm, int integer_bytes) {
  gemm_function<double>().set(reinterpret_cast<void*>(dgemm), integer_bytes);
  gemm_function<float>().set(reinterpret_cast<void*>(sgemm), integer_bytes);
}

}  // namespace

}  // namespace ufm_fast::c

extern "C" UFM_FAST_API const ufm_fast::c::Level* ufm_fast_level() {
  static const ufm_fast::c::Level level{UFM_FAST_ISA_NAME, UFM_FAST_VERSION, ufm_fast::c::make, ufm_fast::c::set_gemm};
  return &level;
}
